"""What all commands have in common: help, exit codes, errors, JSON."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from repl_pipelines.commands.command import command
from repl_pipelines.commands.exits import Exit, exit_after
from repl_pipelines.commands.main import main
from repl_pipelines.commands.output import Output
from repl_pipelines.errors import (
    DeclarationError,
    GrantMissing,
    NotProven,
    SourceUnavailable,
    StoreRefused,
    SyncInProgress,
    TableNotFound,
)
from tests.commands.calls import call
from tests.commands.manual import commands, manual

ROOT = Path(__file__).parents[2]
HEAVY = "dagster duckdb deltalake boto3 pyarrow psycopg pymysql"


def test_help_is_told_by_the_entry_point_before_anything_heavy_is_imported() -> None:
    program = (
        "import sys; from repl_pipelines.__main__ import main\n"
        "try: main(['--help'])\n"
        f"finally: print([m for m in '{HEAVY}'.split() if m in sys.modules])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert ran.returncode == 0, ran.stderr
    assert "Exit codes:" in ran.stdout
    assert ran.stdout.splitlines()[-1] == "[]"


def test_the_manual_is_what_help_prints() -> None:
    page = (ROOT / "docs" / "commands.md").read_text()
    assert page == manual(), "run: python -m tests.commands.manual > docs/commands.md"


def test_every_command_teaches_and_can_print_json() -> None:
    for names, one in commands(main):
        if isinstance(one, click.Group):
            continue
        assert "Example" in (one.help or ""), names
        flags = {option for parameter in one.params for option in parameter.opts}
        assert {"--json", "--debug"} <= flags or names[-1] in {"export", "metrics"}, names


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (TableNotFound("t is not there.", "Look."), Exit.WRONG),
        (SyncInProgress("t is being synced."), Exit.LATER),
        (SourceUnavailable("It is away."), Exit.LATER),
        (GrantMissing("No right.", "GRANT it;"), Exit.ACT),
        (ValueError("a row: secret"), Exit.ACT),
        (KeyboardInterrupt(), Exit.INTERRUPTED),
        (click.Abort(), Exit.INTERRUPTED),
    ],
)
def test_an_error_ends_a_command_with_its_code_and_no_traceback(
    error: BaseException, code: Exit
) -> None:
    @command()
    def failing(_: Output) -> Exit:
        raise error

    for flags in ([], ["--json"]):
        result = CliRunner().invoke(failing, flags)
        assert result.exit_code == code
        assert "Traceback" not in result.output
        assert "secret" not in result.output
        assert result.stdout == "" or '"kind"' in result.stdout
        assert getattr(error, "what", "") in result.stderr
        assert getattr(error, "remedy", "") in result.stderr
    assert code is Exit.INTERRUPTED or "Traceback" in CliRunner().invoke(failing, "--debug").stderr


def test_what_was_found_counts_before_what_failed() -> None:
    later, act, wrong = SourceUnavailable(""), StoreRefused(""), DeclarationError("")
    assert exit_after([]) is Exit.DONE
    assert exit_after([wrong, later]) is Exit.LATER
    assert exit_after([later, act, wrong]) is Exit.ACT
    assert exit_after([NotProven("")], found=True) is Exit.FOUND


def test_wrong_usage_is_told(tmp_path: Path) -> None:
    assert "No such command 'sink'" in call("sink", code=Exit.WRONG).err
    assert "Missing argument 'NAME'" in call("status", code=Exit.WRONG).err
    outside = call("status", "shop", "--project", tmp_path, "--json", code=Exit.WRONG)
    assert outside.document["error"]["kind"] == "DeclarationError"
    assert "is not in a project" in outside.err
