"""The house: imports point downwards only, and the engine knows nothing of Dagster."""

import ast
import gc
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "repl_pipelines"
# Each room may use those below it, and itself.
FLOORS = [
    {"demo", "evidence"},
    {"definitions"},
    {"__init__"},
    {"replication"},
    {"orchestration"},
    {"sync"},
    {"replicas"},
    {"sources", "lake"},
    {"proof"},
    {"duck"},
    {"model"},
    {"errors", "failpoints", "scratch"},
]
ENGINE = (
    *("errors", "failpoints", "scratch", "duck"),
    *("model", "proof", "sources", "lake", "replicas", "sync"),
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
        for node in ast.walk(parsed(file)):
            for name in imported(node):
                if name.split(".")[0] == "repl_pipelines":
                    yield file, own, room(name)


def parsed(file: Path) -> ast.AST:
    """Without garbage collection: one that parses, too, ends in a SystemError (cpython#106905)."""
    gc.disable()
    try:
        return ast.parse(file.read_text())
    finally:
        gc.enable()


def imported(node: ast.AST) -> list[str]:
    """Modules that a statement imports; `from repl_pipelines import duck` imports the latter."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module == "repl_pipelines":
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return [node.module or ""] if isinstance(node, ast.ImportFrom) else []


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
