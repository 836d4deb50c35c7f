"""What `dg scaffold defs repl_pipelines.Replication <name>` writes: an example to be edited."""

import dagster as dg

_YAML = """\
# What is replicated. Every field but `source` has a default; unused lines can go.
# Check it with `dg check defs`; see what it makes with `dg list defs`.
type: {type}

attributes:
  # Resource to read from, in resources/__init__.py. It also names jobs and assets.
  source: {name}

  # Resource that holds the lake (Parquet with a Delta log on S3).
  lake: lake

  # Resources to keep as current copies, fed from the lake. None is fine, too.
  replicas: [duckdb, postgres]

  # Tables: a name or a pattern, or a list of names, patterns and mappings. `name` is `table`,
  # `schema.table` or a pattern of either; exact names win over patterns.
  tables:
    - "*"

    # Rows changed since the last sync, by a column that grows with every change of a row.
    # - name: orders
    #   cursor: updated_at
    #   deletes: reconcile        # or ignore: do not look for deleted rows

    # Every change, from the source's log: needs a key, wal_level = logical and REPLICATION.
    # - name: orders
    #   mode: log

    # Time ranges, each a Dagster partition: replaced, backfilled and proven as a whole.
    # - name: events
    #   partition:
    #     column: created_at
    #     unit: day               # hour, day, week or month, in UTC
    #     start: "2026-01-01"     # first day offered for backfills

    # The key, where the source declares none; what happens to values the lake cannot hold.
    # - name: billing.payments
    #   key: [payment_id]
    #   columns:
    #     amount: text            # fail (default), text: the column as text, null: counted
    #     phone: mask             # hash, encrypt, mask, drop: not as it is (docs/protection.md)

  # What must not be copied as it is, in any table: hash and encrypt (with a key of the source),
  # mask, drop; by column and by type, exact names or patterns. What a table declares itself wins.
  # columns: {{"*email*": hash, "*password*": drop}}
  # types: {{bytea: drop}}

  # When to sync, and when to prove every copy equal to the source (cron, UTC); null: by hand.
  schedule: "*/5 * * * *"
  validation: "0 * * * *"

  # Days in which validations compare every row once, a share of each table at a time (mode log;
  # cursor with deletes: ignore). null: all rows each time.
  # validation_days: 7

  # Partitions of one backfill run: all (`dg launch --partition-range` needs that), or
  # {{type: multi_run, max_partitions_per_run: 30}} for several runs side by side.
  backfill:
    type: single_run

  # Fold change rows into the base of a table when they exceed this share of its rows, or this
  # number of files; share 0 folds at every sync. Old versions of rows can be read for so many days.
  fold: {{share: 0.2, files: 20, history: 7}}

  # Let validations heal what they find, up to this share of a table's rows. By hand: the job
  # {name}_repair.
  repair: {{automatic: false, limit: 0.1}}

  # Seconds a copy may be behind the source before its check fails.
  lag_limit: 900

# Owners, tags and the like for any selection of the assets.
# post_processing:
#   assets:
#     - target: "group:{name}"
#       attributes:
#         owners: [team:data]
"""


class ReplicationScaffolder(dg.Scaffolder):
    """Writes a commented defs.yaml."""

    def scaffold(self, request: dg.ScaffoldRequest) -> None:
        if request.scaffold_format != "yaml":
            raise ValueError("A Replication is declared in YAML: leave out --format python.")
        text = _YAML.format(type=request.type_name, name=request.target_path.name)
        file = request.target_path / "defs.yaml"
        if request.append:
            text = file.read_text() + "---\n" + text
        file.write_text(text)
