"""Calls of the command `repl-pipelines` in this process."""

import json
from dataclasses import dataclass
from typing import Any

from click.testing import CliRunner

from repl_pipelines.commands.exits import Exit
from repl_pipelines.commands.main import main


@dataclass(frozen=True)
class Call:
    """What a command printed: out to the standard output, err to the standard error."""

    out: str
    err: str

    @property
    def document(self) -> Any:
        """What `--json` printed: one document and nothing else."""
        return json.loads(self.out)


SPOKEN: list[Call] = []  # of the test that is running


def call(*arguments: object, code: Exit = Exit.DONE) -> Call:
    """Run a command, which must end with this code."""
    result = CliRunner(env={"COLUMNS": "80"}).invoke(main, [str(a) for a in arguments])
    assert result.exit_code == code, result.output
    SPOKEN.append(Call(result.stdout, result.stderr))
    return SPOKEN[-1]
