"""The `dg` and `dagster` commands, in a copy of this project; and the wheel in somebody else's."""

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.orchestration.project import Project

ROOT = Path(__file__).parents[2]


def run(directory: Path, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
    place = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "VIRTUAL_ENV": sys.prefix,
        "DAGSTER_HOME": str(directory),
        "PYTHONPATH": f"{directory}{os.pathsep}{ROOT}",
        "NO_COLOR": "1",
        "COLUMNS": "300",
    }
    return subprocess.run(
        command,
        cwd=directory,
        env={**os.environ, **place, **env},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A clone of this project, as far as `dg` looks at it; its database is away."""
    place = tmp_path / "clone"
    for folder in ("assets", "resources"):
        ignore = shutil.ignore_patterns(".local_defs_state", "__pycache__")
        shutil.copytree(ROOT / folder, place / folder, ignore=ignore)
    for file in ("pyproject.toml", "workspace.yaml", "dagster.yaml"):
        shutil.copy(ROOT / file, place / file)
    return place


def test_a_fresh_clone_scaffolds_checks_and_loads_without_a_database(copy: Path) -> None:
    away = {"SHOP_PORT": "1", "SHOP_PASSWORD": "none"}
    made = run(copy, "dg", "scaffold", "defs", "repl_pipelines.Replication", "shop2", **away)
    assert made.returncode == 0, made.stdout + made.stderr
    scaffolded = (copy / "assets" / "shop2" / "defs.yaml").read_text()
    assert "source: shop2" in scaffolded
    text = scaffolded.replace("source: shop2", "source: shop")
    shutil.rmtree(copy / "assets" / "shop")
    (copy / "assets" / "shop2" / "defs.yaml").write_text(text)
    checked = run(copy, "dg", "check", "defs", **away)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    loaded = run(copy, "dagster", "definitions", "validate", "-w", "workspace.yaml", **away)
    assert loaded.returncode == 0, loaded.stdout + loaded.stderr


def test_a_typing_error_is_found_by_dg_check_yaml_with_its_line(copy: Path) -> None:
    yaml = copy / "assets" / "shop" / "defs.yaml"
    lines = yaml.read_text().splitlines()
    [number] = [i for i, line in enumerate(lines, 1) if "name: customers" in line]
    yaml.write_text(yaml.read_text().replace("customers, cursor:", "customers, cursr:"))
    checked = run(copy, "dg", "check", "yaml")
    assert checked.returncode != 0
    assert f"defs.yaml:{number}" in checked.stdout + checked.stderr
    assert "cursr" in checked.stdout + checked.stderr


def test_tables_are_discovered_by_command_and_listed(make_project: Callable[..., Project]) -> None:
    project = make_project()
    refreshed = run(project.root, "dg", "utils", "refresh-defs-state")
    assert refreshed.returncode == 0, refreshed.stdout + refreshed.stderr
    (project.root / project.name / "definitions.py").write_text(
        "from pathlib import Path\n"
        "import dagster as dg\n"
        f"from {project.name}.connections import CONNECTIONS\n"
        "@dg.definitions\n"
        "def defs():\n"
        "    found = dg.load_from_defs_folder(path_within_project=Path(__file__).parent)\n"
        "    return dg.Definitions.merge(found, dg.Definitions(resources=CONNECTIONS))\n"
    )
    listed = run(project.root, "dg", "list", "defs", "--json")
    assert listed.returncode == 0, listed.stdout + listed.stderr
    assert "validation/shop/events" in listed.stdout


def test_the_wheel_brings_the_component_to_any_project(tmp_path: Path) -> None:
    built = run(
        ROOT, sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)
    )
    assert built.returncode == 0, built.stdout + built.stderr
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "site")
    assert not [n for n in names if n.startswith(("assets/", "resources/", "tests/"))]
    [points] = (tmp_path / "site").glob("*.dist-info/entry_points.txt")
    assert "repl_pipelines = repl_pipelines" in points.read_text()
    program = (
        "import sys; from importlib.metadata import entry_points;"
        " sys.exit([e for e in entry_points(group='console_scripts')"
        " if e.name == 'repl-pipelines'][0].load()(['--version']))"
    )
    told = run(tmp_path, sys.executable, "-P", "-c", program, PYTHONPATH=str(tmp_path / "site"))
    assert told.stdout.endswith(f"version {version('repl-pipelines')}\n"), told.stderr
    code = "import repl_pipelines as r; print(r.Replication.__module__, r.__file__)"
    found = run(tmp_path, sys.executable, "-P", "-c", code, PYTHONPATH=str(tmp_path / "site"))
    assert found.stdout.startswith("repl_pipelines.replication"), found.stderr
    assert str(tmp_path) in found.stdout
