"""Long logs: checkpoints keep them short, and what was committed is found after a clean-up."""

from __future__ import annotations

from tests.lake.copies import Copy

TEN = "SELECT i AS id, 'row ' || i AS name FROM range(10) AS r(i)"
LOG = "lake/shop/public/items/_delta_log/"


def test_checkpoints_are_made_on_the_way(items: Copy) -> None:
    items.copy(TEN)
    for number in range(21):
        items.change(f"SELECT 100 + {number}::BIGINT AS id, '' AS name")
    store = items.lake.store
    listed = store.client().list_objects_v2(Bucket=store.bucket, Prefix=LOG)["Contents"]
    assert any("checkpoint.parquet" in item["Key"] for item in listed)
    assert len(items.rows()) == 31
    assert items.next_batch == 23


def test_the_head_is_found_after_a_cleaned_up_log(items: Copy) -> None:
    items.copy(TEN)
    items.change("SELECT 3::BIGINT AS id, 'three' AS name")
    expected = items.place.batches.head()
    assert expected is not None
    version = items.place.fold(items.table)
    assert version is not None
    handle = items.place._log.open()
    assert handle is not None
    handle.create_checkpoint()
    items.lake.store.delete(f"{LOG}{gone:020d}.json" for gone in range(version))
    head = items.place.batches.head()
    assert head is not None
    assert (head.version, head.batch, head.entries) == (
        expected.version,
        expected.batch,
        expected.entries,
    )
    assert items.rows(version=head.version) == items.rows()
    items.change("SELECT 4::BIGINT AS id, 'four' AS name")
    assert items.next_batch == 4
