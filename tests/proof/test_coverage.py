"""What is due of a table, and what is known of it: arithmetic, without servers."""

import json
import random
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from repl_pipelines.model.coverage import Axis, Coverage, Order, Part, roundest
from repl_pipelines.proof.evidence import canonical
from repl_pipelines.proof.stride import Stride
from repl_pipelines.sync.records import History
from repl_pipelines.sync.share import Due

START = datetime(2026, 11, 1, tzinfo=UTC)
IDS = Axis("id", Order.INTEGER)


def at(hours: float) -> datetime:
    return START + timedelta(hours=hours)


def test_what_was_proven_last_is_known_of_every_row() -> None:
    """Against the plain way: a time for each of 40 values."""
    for seed in range(50):
        dice = random.Random(seed)
        coverage, plain = Coverage(IDS), dict.fromkeys(range(-20, 20))
        for turn in range(12):
            lower, upper = sorted(dice.sample(range(-20, 20), 2))
            cut = (None if lower < -15 else lower, None if upper > 15 else upper)
            coverage = coverage.covered(*cut, at(turn))
            for value in plain:
                below = cut[1] is None or value < cut[1]
                if below and (cut[0] is None or value >= cut[0]):
                    plain[value] = at(turn)
            for value, time in plain.items():
                [*_, part] = [p for p in coverage.parts if p.lower is None or p.lower <= value]
                assert part.at == time, (seed, turn, value)
        text = canonical({"coverage": coverage.plain()})
        assert Coverage.parse(json.loads(text)["coverage"]) == coverage


def test_many_parts_are_joined_and_none_gets_younger() -> None:
    coverage = Coverage(IDS)
    for i in range(2000):
        coverage = coverage.covered(i, i + 1, at(i))
    assert len(coverage.parts) <= 512
    assert coverage.parts[0] == Part(None, None)
    for part, following in zip(coverage.parts[1:], coverage.parts[2:], strict=False):
        assert part.lower is not None
        assert part.at is None or part.at <= at(part.lower)
        assert following.lower is not None


@pytest.mark.parametrize("missed", [0, 1, 40, 1000])
def test_the_period_holds_whatever_is_missed(missed: int) -> None:
    """A run each hour, a period of 100 hours, all 64 buckets; then none for a while, then again."""
    period, coverage, last = timedelta(hours=100), Coverage(Axis()), None
    hours = [*range(300), *(300 + missed + n for n in range(300))]
    proven = 0
    for hour in hours:
        due = Due.of(History(coverage, last), at(hour), period)
        numbers, most = int(due.share * 64), 64
        while most and (numbers > 0 or due.late(coverage)):
            number = coverage.oldest.lower or 0
            upper = number + 1 if number < 63 else None
            coverage = coverage.covered(number or None, upper, at(hour))
            last, numbers, most, proven = at(hour), numbers - 1, most - 1, proven + 1
        assert coverage.oldest.at
        assert at(hour) - coverage.oldest.at <= period
    assert proven <= 64 * (2 + 600 / 50), "a share of the table at a time"


def test_without_a_period_everything_is_due() -> None:
    due = Due.of(History(Coverage(IDS, (Part(None, at(1)),)), at(1)), at(2), None)
    assert due.share == 1
    assert due.late(Coverage(IDS, (Part(None, at(2)),)))


def test_bounds_are_round_and_ranges_never_empty() -> None:
    dice = random.Random(1)
    for _ in range(1000):
        low = dice.randrange(-(2**63), 2**63)
        high = low + dice.randrange(1, 2**50)
        found = roundest(low, high)
        assert low < found <= high
        assert found % 2 ** max(0, (high - low).bit_length() - 1) == 0
    assert roundest(-5, 3) == 0
    assert roundest(1000, 2000) == 1024
    ids = Axis("id", Order.UUID)
    text = "12345678-9abc-def0-1234-56789abcdef0"
    assert ids.text(ids.value(text)) == text
    assert ids.value(text) == UUID(text).int


def test_a_stride_follows_the_time_a_statement_takes() -> None:
    stride = Stride(100)
    for seconds in (0.0, 0.1, 0.5):
        stride.took(seconds)
    assert stride.size == 800
    stride.took(1.0)
    assert stride.size == 800
    stride.took(60.0)
    assert stride.size == 400
    assert stride.too_long()
    assert stride.size == 200
    stride.size = 1
    assert not stride.too_long()
