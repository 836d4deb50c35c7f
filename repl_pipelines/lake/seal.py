"""What each commit of ours says of the table that it makes: which version, and which files.

A Delta log does not notice what is missing from it. A commit's file that is empty, cut at the end
of a line or replaced by an older one is read without complaint, and so is a log whose last files
are gone: the table is then silently another one. With this in every commit it is noticed.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from repl_pipelines.lake.actions import LakeFile

FILES = "repl_pipelines_files"  # commit metadata: digest of all files after it
VERSION = "repl_pipelines_version"  # commit metadata: the version that it makes, where known


def seal(files: Iterable[LakeFile], version: int | None = None) -> dict[str, Any]:
    """Metadata for the commit after which the table consists of `files`."""
    known = {} if version is None else {VERSION: version}
    return {FILES: _digest(files), **known}


def broken(info: Mapping[str, Any] | None, files: Iterable[LakeFile], version: int) -> str:
    """What is wrong with a log that has these files at `version`; '' if nothing is.

    info: what the version's commit says of itself; commits of other programs, and of ours before
    they were sealed, say nothing of it
    """
    if info is None:
        return f"the commit of version {version} is gone"
    if not info:
        return f"the commit of version {version} was cut off or emptied"
    if not sound(info, version):
        return f"version {version} is a copy of version {info[VERSION]}"
    if FILES in info and info[FILES] != _digest(files):
        return f"its files at version {version} are not those that were committed"
    return ""


def sound(info: Mapping[str, Any], version: int) -> bool:
    """Whether what a commit says of itself is there, and of this version."""
    return bool(info) and info.get(VERSION, version) == version


def _digest(files: Iterable[LakeFile]) -> str:
    lines = sorted(f"{f.path}\t{f.size}\t{f.rows}\t{f.layer}\t{f.partition}" for f in files)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
