"""`python -m bench [NAME ...]`: run the benches named, or all, and print their tables."""

import sys
from collections.abc import Callable

from bench import cdc, flat, full, full_mariadb, location, many, memory

BENCHES: dict[str, Callable[[], None]] = {
    "cdc": cdc.main,
    "flat": flat.main,
    "full": full.main,
    "full-mariadb": full_mariadb.main,
    "location": location.main,
    "many": many.main,
    "memory": memory.main,
}


def main() -> int:
    names = sys.argv[1:] or list(BENCHES)
    unknown = set(names) - BENCHES.keys()
    if unknown:
        print(f"There is no bench {min(unknown)!r}; there are: {', '.join(BENCHES)}.")
        return 2
    for name in names:
        BENCHES[name]()
    return 0


if __name__ == "__main__":
    sys.exit(main())
