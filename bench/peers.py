"""Peers in environments of their own, made from the package registry at first use."""

import os
import subprocess
import sys
from pathlib import Path

CACHE = Path(os.environ.get("BENCH_CACHE", Path.home() / ".cache" / "repl-pipelines-bench"))


def python_with(name: str, packages: tuple[str, ...]) -> str:
    """The Python of an environment that has exactly these packages, and what they need."""
    place = CACHE / name
    told = place / "packages.txt"
    if not told.exists() or told.read_text() != "\n".join(packages):
        print(f"Making an environment for {name}", file=sys.stderr)
        uv = [sys.executable, "-m", "uv"]
        if subprocess.run([*uv, "--version"], capture_output=True, check=False).returncode:
            install = [sys.executable, "-m", "pip", "install", "--quiet", "uv"]
            subprocess.run(install, check=True)
        base = ["--quiet", "--python"]
        subprocess.run([*uv, "venv", *base, sys.executable, "--clear", str(place)], check=True)
        python = str(place / "bin" / "python")
        subprocess.run([*uv, "pip", "install", *base, python, *packages], check=True)
        told.write_text("\n".join(packages))
    return str(place / "bin" / "python")
