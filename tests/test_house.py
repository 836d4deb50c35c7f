"""The house: imports point downwards only, and the engine knows nothing of Dagster."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "repl_pipelines"
# Each room may use those below it, and itself.
FLOORS = [
    {"__main__"},
    {"demo", "commands"},
    {"definitions"},
    {"__init__"},
    {"replication"},
    {"orchestration"},
    {"lifecycle"},
    {"sync"},
    {"replicas"},
    {"sources", "lake"},
    {"proof"},
    {"duck"},
    {"model"},
    {"errors", "failpoints", "scratch"},
]
IMPORT = re.compile(
    r"^ *(?:from|import) (repl_pipelines[\w.]*)(?: import ([^(\n#]+))?", re.MULTILINE
)
ENGINE = (
    *("errors", "failpoints", "scratch", "duck"),
    *("model", "proof", "sources", "lake", "replicas", "sync", "lifecycle"),
)


def room(module: str) -> str:
    """`repl_pipelines.lake.table` is in the lake."""
    return [*module.split("."), "__init__"][1]


def floor(name: str) -> int:
    return next(level for level, rooms in enumerate(FLOORS) if name in rooms)


def imports() -> Iterator[tuple[Path, str, str]]:
    """(file, its room, the room it imports from) for all imports within the package."""
    for file in sorted(PACKAGE.rglob("*.py")):
        own = room(".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts))
        for name in imported(file.read_text()):
            yield file, own, room(name)


def imported(source: str) -> Iterator[str]:
    """Our modules that a file imports; `from repl_pipelines import duck` imports the latter.

    Not by `ast`: Python 3.11 may fail to build a tree in a process with threads (cpython#106905).
    """
    for module, names in IMPORT.findall(source):
        if module != "repl_pipelines" or not names:
            yield module
        else:
            yield from (f"{module}.{name.split()[0]}" for name in names.split(","))


def test_imports_point_downwards() -> None:
    wrong = [
        f"{file.relative_to(PACKAGE)} imports from {other}"
        for file, own, other in imports()
        if own != other and floor(own) >= floor(other)
    ]
    assert not wrong


def test_every_room_has_its_floor() -> None:
    rooms = {own for _, own, _ in imports()}
    assert rooms <= set().union(*FLOORS)
    assert {"sync", "lake", "sources", "model"} <= rooms


def test_the_engine_works_without_dagster() -> None:
    files = [
        f
        for name in ENGINE
        for f in (*PACKAGE.glob(f"{name}.py"), *PACKAGE.glob(f"{name}/**/*.py"))
    ]
    modules = [".".join(f.relative_to(PACKAGE.parent).with_suffix("").parts) for f in files]
    lines = ["import sys", "sys.modules['dagster'] = None", *(f"import {m}" for m in modules)]
    command = [sys.executable, "-c", "\n".join(lines)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
