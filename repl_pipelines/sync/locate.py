"""From a proof that failed to the rows and columns that differ, while everybody goes on writing.

The source's rows at the copy's position may be gone from the source. But whoever has a group of
rows with the figure that the source recorded for it at that position, has the source's rows of that
position: a witness. The lake is one for its replicas, an intact replica for a damaged lake, and the
source itself, in any later snapshot, for every group that has not changed since.
"""

from collections.abc import Collection, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace

from repl_pipelines.errors import ReplicationError
from repl_pipelines.model.difference import Found, Kind
from repl_pipelines.model.entry import COARSE
from repl_pipelines.model.figures import Figure
from repl_pipelines.model.selection import Buckets
from repl_pipelines.model.table import Table
from repl_pipelines.proof.bisect import Depth, Side, bisect
from repl_pipelines.proof.bisect import found as told
from repl_pipelines.replicas.contract import View
from repl_pipelines.sync.hold import LAKE, Scope
from repl_pipelines.sync.report import Proof
from repl_pipelines.sync.sides import LakeView, SourceSide

_MOVED = (
    "No intact copy holds these groups, and the source has changed them since: which of their rows"
    " were damaged cannot be told from those that were changed. A repair corrects all of them."
)
_ABSENT = "The copy does not hold the table."


def located(scope: Scope, view: View, proofs: Iterable[Proof]) -> list[Proof]:
    """The proofs of one copy, with the rows that differ in those that failed."""
    tables = {table.name: table for table in scope.tables}
    return [
        proof if proof.proven else _located(scope, view, tables[proof.table], proof)
        for proof in proofs
    ]


def _located(scope: Scope, view: View, table: Table, proof: Proof) -> Proof:
    with closing(_witnesses(scope, table, proof.copy)) as witnesses:
        return locate(proof, table, view.relation(table), witnesses, scope.depth)


def locate(
    proof: Proof, table: Table, copy: Side | None, witnesses: Iterable[Side], depth: Depth
) -> Proof:
    """The proof with what a bisection finds in each group for which there is a witness."""
    left = {one.group: one.source for one in proof.differences}
    if copy is None:
        rows = sum(figure.rows for figure in left.values())
        absent = Found({Kind.MISSING: rows}, rest=len(left), note=_ABSENT)
        return replace(proof, found=absent)
    found = Found()
    for witness in witnesses:
        roots = _roots(proof, left)
        groups = witness.figures(roots, roots.of).groups
        sure = [g for g in left if groups.get(_number(proof, g), Figure()) == left[g]]
        if sure:
            leaves = bisect(table, witness, copy, _roots(proof, sure), depth)
            found += told(table, leaves)
            left = {group: figure for group, figure in left.items() if group not in sure}
        if not left:
            break
    if left:
        found += Found(rest=len(left), note=_MOVED)
    return replace(proof, found=found)


def _roots(proof: Proof, groups: Collection[str]) -> Buckets:
    """Where the bisection of these groups begins: buckets of keys, or one time partition."""
    if proof.partition is not None:
        return Buckets((0,), 1, (proof.partition,))
    within = proof.cover.rows.within if proof.cover else ()
    return Buckets(tuple(sorted(map(int, groups))), COARSE, within=within)


def _number(proof: Proof, group: str) -> str:
    return "0" if proof.partition is not None else group


def _witnesses(scope: Scope, table: Table, accused: str) -> Generator[Side]:
    """Everybody else who may have the rows: the copies first, they cost the source nothing."""
    if accused != LAKE:
        with scope.lake.session() as session:
            yield LakeView(scope.lake, scope.lake.journal.newest(), session).relation(table)
    for name in scope.replicas:
        if name != accused:
            with _replica(scope, name) as view:
                side = view.relation(table) if view else None
                if side:
                    yield side
    if scope.source:
        with scope.source() as snapshot, scope.lake.session() as session:
            yield SourceSide(snapshot, table, session)


@contextmanager
def _replica(scope: Scope, name: str) -> Iterator[View | None]:
    """A look at the replica as of the newest sync; None if it cannot be had."""
    replica = scope.replicas[name]
    try:
        replica.apply(scope.lake, scope.readable, scope.run)
    except ReplicationError:
        yield None  # told when the replica itself is proven
        return
    with replica.view() as view:
        yield view
