"""`erase` takes keys from a file, and shows none of them."""

import json

from repl_pipelines.commands.exits import Exit
from tests.commands.calls import call
from tests.orchestration.project import Project


def test_rows_named_in_a_file_are_erased(project: Project) -> None:
    keys = project.root / "keys.json"
    keys.write_text('{"orders": [{"id": 29}, {"note": "CanaryNote"}]}')
    given = ("erase", "shop", "--keys-file", keys)
    refused = call(*given, code=Exit.ACT)
    assert "The source still has such rows" in refused.err
    keys.write_text('{"orders": [{"id": 29.5}]}')
    assert "not a JSON object of tables" in call(*given, code=Exit.WRONG).err

    keys.write_text('{"orders": [{"id": 29}, {"note": "CanaryNote"}]}')
    project.sql("delete from orders where id = 29")
    call(*given)
    done = call(*given, "--json")
    assert done.document["done"]
    assert [one["table"] for one in done.document["tables"]] == ["public.orders"]
    assert len(bytes.fromhex(done.document["receipt"])) == 32
    assert "CanaryNote" not in json.dumps([refused.err, refused.out, done.out, done.err])
