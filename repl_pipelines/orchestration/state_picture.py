"""The state of a replication as a picture: each table's last proofs, and what was found when."""

from base64 import b64encode
from collections.abc import Iterator
from datetime import datetime
from html import escape

from repl_pipelines.proof.evidence import Told
from repl_pipelines.sync.attempts import Attempt
from repl_pipelines.sync.lag import spoken
from repl_pipelines.sync.state import ReplicationState, TableState

# A shape beside each colour: for those who do not tell red from green.
_COLOURS = {Told.EQUAL: "#2f9e6e", Told.DIFFERENT: "#d6453d", Told.NOT_COMPARED: "#e0a32e"}
_WORDS = {Told.DIFFERENT: "differs", Told.NOT_COMPARED: "not compared", None: "not proven yet"}
_INK, _PALE, _LINE = "#1b2330", "#6a7585", "#e3e7ec"
_WIDTH, _HEAD, _ROW = 920, 104, 26
_BARS, _NO_BARS = 122, 44  # from the tables down to where the bars stand
_STRIP, _CELL, _CELLS = 236, 13, 30  # where attempts begin, how wide one is, how many there are
_TABLES = 40  # rows of the picture; those that are not green come first


def picture(state: ReplicationState) -> str:
    """An SVG image as a data URI: Markdown in the UI shows images, and no HTML."""
    return f"data:image/svg+xml;base64,{b64encode(svg(state).encode()).decode()}"


def svg(state: ReplicationState) -> str:
    """The image itself."""
    shown = sorted(state.tables, key=lambda table: (table.proven, table.name))[:_TABLES]
    found, top = _found(state), _HEAD + len(shown) * _ROW
    base = top + (_BARS if any(found.values()) else _NO_BARS)
    height = base + 32
    rows = [part for i, table in enumerate(shown) for part in _row(state, table, _HEAD + i * _ROW)]
    parts = [*_head(state), *rows, *_differences(found, top, base)]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}"'
        f' viewBox="0 0 {_WIDTH} {height}" font-size="13"'
        ' font-family="Inter, system-ui, -apple-system, Segoe UI, Roboto, sans-serif">'
        f'<rect x=".5" y=".5" width="{_WIDTH - 1}" height="{height - 1}" rx="10" fill="#fff"'
        f' stroke="{_LINE}"/>{"".join(parts)}</svg>'
    )


def _head(state: ReplicationState) -> Iterator[str]:
    equal, copies = state.count(Told.EQUAL), sum(len(table.copies) for table in state.tables)
    worst = next((t for t in (Told.DIFFERENT, Told.NOT_COMPARED) if state.count(t)), None)
    colour = _COLOURS[Told.EQUAL if state.proven else worst or Told.NOT_COMPARED]
    yield f'<circle cx="32" cy="36" r="11" fill="{colour}"/>'
    yield _text(54, 43, f"{equal} of {copies} copies proven equal", size=21, weight=600)
    facts = [f"{state.source} at sync {state.sync}", f"{spoken(state.lag.seconds)} behind"]
    oldest = min((t.since for t in state.tables if t.since), default=None)
    if oldest:
        facts.append(f"oldest proof {spoken((state.at - oldest).total_seconds())} old")
    facts.append(f"drawn {state.at:%Y-%m-%d %H:%M} UTC")
    yield _text(54, 65, "  ·  ".join(facts), colour=_PALE)
    yield _text(20, _HEAD - 10, "table", colour=_PALE, size=11)
    text = "its last proofs, the newest on the right"
    yield _text(_STRIP, _HEAD - 10, text, colour=_PALE, size=11)
    yield _text(_after_strip(), _HEAD - 10, "now", colour=_PALE, size=11)


def _row(state: ReplicationState, table: TableState, top: int) -> Iterator[str]:
    yield f'<path d="M20 {top}H{_WIDTH - 20}" stroke="{_LINE}"/>'
    name = str(table.name).removeprefix("public.")
    yield _text(20, top + 17, name if len(name) < 30 else f"{name[:28]}…")
    attempts = table.attempts[-_CELLS:]
    for i in range(_CELLS):
        place = _CELLS - len(attempts)
        yield _cell(_STRIP + i * _CELL, top, attempts[i - place] if i >= place else None)
    yield from _now(state, table, top)


def _cell(left: int, top: int, attempt: Attempt | None) -> str:
    """Full and green; full, red and crossed; half and yellow; a dot where there was nothing."""
    if attempt is None:
        return f'<circle cx="{left + 5}" cy="{top + 13}" r="1.5" fill="{_LINE}"/>'
    low = attempt.told is Told.NOT_COMPARED
    cell = (
        f'<rect x="{left}" y="{top + (13 if low else 6)}" width="10" height="{7 if low else 14}"'
        f' rx="2" fill="{_COLOURS[attempt.told]}"><title>{attempt.at:%Y-%m-%d %H:%M} UTC:'
        f" {attempt.told}</title></rect>"
    )
    if attempt.told is Told.DIFFERENT:
        cell += f'<path d="M{left + 2} {top + 10}l6 6m0-6l-6 6" stroke="#fff" stroke-width="1.6"/>'
    return cell


def _now(state: ReplicationState, table: TableState, top: int) -> Iterator[str]:
    wrong = {name: copy for name, copy in table.copies.items() if copy.told is not Told.EQUAL}
    if table.since:
        age = spoken((state.at - table.since).total_seconds())
        text, colour = f"equal, {age} ago", _COLOURS[Told.EQUAL]
    elif wrong:
        name, copy = min(wrong.items(), key=lambda one: one[1].told is not Told.DIFFERENT)
        colour = _COLOURS.get(copy.told or Told.NOT_COMPARED, _PALE)
        rows = f" in {copy.much}" if copy.told is Told.DIFFERENT else ""
        more = f" (+{len(wrong) - 1})" if len(wrong) > 1 else ""
        text = f"{name} {_WORDS[copy.told]}{rows}{more}"
    else:
        text, colour = "records broken", _COLOURS[Told.DIFFERENT]
    yield _text(_after_strip(), top + 17, text, colour=colour, weight=600)


def _found(state: ReplicationState) -> dict[datetime, int]:
    """Rows found to differ, by the minute of the attempts; of a table's in one the most."""
    found: dict[datetime, int] = {}
    for table in state.tables:
        own: dict[datetime, int] = {}
        for attempt in table.attempts:
            at = attempt.at.replace(second=0, microsecond=0)
            own[at] = max(own.get(at, 0), attempt.rows)
        for at, rows in own.items():
            found[at] = found.get(at, 0) + rows
    return found


def _differences(found: dict[datetime, int], top: int, base: int) -> Iterator[str]:
    """A bar for rows found to differ, along time, and a tick for each attempt."""
    yield f'<path d="M20 {top}H{_WIDTH - 20}" stroke="{_LINE}"/>'
    most = max(found.values(), default=0)
    told = f"at most {most:,} at once" if most else "none in these proofs"
    yield _text(20, top + 24, f"Rows found to differ, over time: {told}", weight=600)
    if not found:
        return
    first, last = min(found), max(found)
    span = max((last - first).total_seconds(), 1)
    yield f'<path d="M20 {base}H{_WIDTH - 20}" stroke="{_PALE}"/>'
    for at, rows in found.items():
        x = 26 + (_WIDTH - 52) * (at - first).total_seconds() / span
        yield f'<path d="M{x:.1f} {base}v5" stroke="{_PALE}"/>'
        if rows:
            high = 6 + 70 * rows / most
            yield (
                f'<rect x="{x - 4:.1f}" y="{base - high:.1f}" width="8" height="{high:.1f}" rx="2"'
                f' fill="{_COLOURS[Told.DIFFERENT]}"><title>{at:%Y-%m-%d %H:%M} UTC: {rows:,}'
                " rows</title></rect>"
            )
    yield _text(20, base + 20, f"{first:%Y-%m-%d %H:%M} UTC", colour=_PALE, size=11)
    if last > first:
        text = f"{last:%Y-%m-%d %H:%M} UTC"
        yield _text(_WIDTH - 20, base + 20, text, colour=_PALE, size=11, end=True)


def _after_strip() -> int:
    return _STRIP + _CELLS * _CELL + 14


def _text(
    x: int,
    y: int,
    text: str,
    *,
    colour: str = _INK,
    size: int = 13,
    weight: int = 400,
    end: bool = False,
) -> str:
    anchor = ' text-anchor="end"' if end else ""
    return (
        f'<text x="{x}" y="{y}" fill="{colour}" font-size="{size}" font-weight="{weight}"{anchor}>'
        f"{escape(text)}</text>"
    )
