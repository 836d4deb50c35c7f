"""Programs of Debian's packages that no package registry of Python has, unpacked into our cache.

No root is needed and nothing of the system changes; the libraries that a program links to and the
system lacks are unpacked beside it.
"""

from __future__ import annotations

import fcntl
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from repl_pipelines.demo.postgres_binaries import private_place
from repl_pipelines.demo.processes import ProcessFailed

_INSTALLS = re.compile(r"^Inst (\S+)", re.MULTILINE)
_ANY = re.compile("")
_KEYS = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_TARGETS = ("indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)")


def unpacked(package: str, suite: str = "") -> Path:
    """The root below which a package lies unpacked (`usr/bin/...`), fetched at the first call.

    suite: another one than the system's, such as `sid`; the libraries are all of that one then, its
    C library too, so a program must be started by the loader among them (`loaded`)
    Raises ProcessFailed where this is no Debian, or the package cannot be had.
    """
    home = cache() / "-".join(filter(None, (package, suite)))
    with _alone(home.with_suffix(".lock")):
        if not home.exists():
            _unpack(package, home, suite)
    return home


def loaded(root: Path, program: str) -> list[str]:
    """How to start a program of another suite: by its own loader, with its own libraries."""
    places = [str(p) for kind in ("*-linux-*", "*/private") for p in root.glob(f"usr/lib/{kind}")]
    [loader, *_] = root.glob("usr/lib/*-linux-*/ld-linux*.so.*")
    return [str(loader), "--library-path", os.pathsep.join(places), str(root / program)]


def libraries(root: Path) -> Path | None:
    """The directory of an unpacked program's own libraries, for the loader, if it has any."""
    return next(root.glob("usr/lib/*-linux-*"), None)


def cache() -> Path:
    """Where every account that may run a server can read."""
    if os.geteuid() == 0:
        return private_place()
    place = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "repl-pipelines"
    place.mkdir(parents=True, exist_ok=True)
    return place


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _unpack(package: str, home: Path, suite: str) -> None:
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise ProcessFailed(
            f"{package} is not installed, and this is no Debian to unpack it from: install it with"
            " the system's own means, so that its program is in PATH."
        )
    unfinished = Path(tempfile.mkdtemp(prefix=f"{package}-", dir=home.parent))
    try:
        if suite:
            _download_from(suite, package, unfinished)
        else:
            _download(package, unfinished)
        for file in sorted(unfinished.glob("*.deb")):
            _run(["dpkg-deb", "-x", file, unfinished / "root"])
        (unfinished / "root").rename(home)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _download(package: str, target: Path) -> None:
    """The package and all that apt would install with it."""
    try:
        _fetch(package, target, [])
    except ProcessFailed:  # no lists yet, or old ones; ours, because those of the system are root's
        lists = target / "lists"
        lists.mkdir(exist_ok=True)
        own = ["-o", f"Dir::State::lists={lists}", "-o", f"Dir::Cache={target}"]
        _run(["apt-get", "-q", *own, "update"], target)
        _fetch(package, target, own)


def _download_from(suite: str, package: str, target: Path) -> None:
    """The package and all libraries that it needs, as if nothing were installed.

    From the mirror that the system has its own packages from, under the same signatures.
    """
    release = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    targets = (line.split(" ") for line in _run(["apt-get", *_TARGETS]).splitlines())
    mirror = next((uri for uri, name, part in targets if (name, part) == (release, "main")), "")
    if not mirror or not _KEYS.exists():
        raise ProcessFailed(f"{package} is in Debian's {suite}, and this is no Debian ({release}).")
    (target / "lists").mkdir()
    (target / "status").touch()
    sources = target / "sources.list"
    sources.write_text(f"deb [signed-by={_KEYS}] {mirror} {suite} main\n")
    own = {
        "Dir::State::lists": target / "lists",
        "Dir::State::status": target / "status",
        "Dir::Cache": target,
        "Dir::Etc::sourcelist": sources,
        "Dir::Etc::sourceparts": "-",
        "APT::Default-Release": suite,
    }
    options = [word for name, value in own.items() for word in ("-o", f"{name}={value}")]
    _run(["apt-get", "-q", *options, "update"], target)
    _fetch(package, target, options, re.compile(r"z?lib(?!perl)"))


def _fetch(
    package: str, target: Path, options: Sequence[str], needed: re.Pattern[str] = _ANY
) -> None:
    apt = ["apt-get", "-q", *options]
    simulated = _run([*apt, "--simulate", "--no-install-recommends", "install", package], target)
    others = filter(needed.match, _INSTALLS.findall(simulated))
    _run([*apt, "download", *sorted({package, *others})], target)


def _run(command: Sequence[str | Path], directory: Path | None = None) -> str:
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise ProcessFailed(f"{' '.join(map(str, command))}: {said}")
    return done.stdout
