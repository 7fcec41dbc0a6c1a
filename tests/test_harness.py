"""The harness: it passes what keeps the rules, at every split of small logs, and finds what breaks them."""

from dataclasses import replace
from datetime import timedelta

import pytest
from apache_beam.utils.timestamp import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from beam_unified import watermarks
from beam_unified.event_time import KafkaTimestamp
from beam_unified.harness import exhaust, sample
from beam_unified.positions import Start, Stop
from beam_unified.source import pool as pools
from beam_unified.source.restriction import LogRestriction
from beam_unified.source.tracker import LogTracker
from beam_unified.testing import InMemoryLog, ManualClock
from beam_unified.transforms import ReadUnified
from tests.strategies import TOPIC, TP, worlds

ELEMENT = (TOPIC, 0)


def small_log():
    """Archived, in both, only in Kafka; a hole in each; event time out of order."""
    log = InMemoryLog(TOPIC)
    for i in range(12):
        log.append(0, b"%d" % i, timestamp=i * 1_000 - (i % 3) * 1_500)
        if i % 5 == 4:
            log.hole(0, 2)
    log.flush(0, 0, 6)
    log.flush(0, 4, 10)
    log.expire(0, 8)
    return log


def read(log, **options):
    defaults = {
        "timestamp_fn": KafkaTimestamp(),
        "stop": Stop.offsets({0: 16}),
        "max_out_of_orderness": timedelta(seconds=3),
        "gap_timeout": timedelta(0),
        "clock": ManualClock(100_000),
    }
    return ReadUnified(log.topic, log.kafka, log.archive, **{**defaults, **options})


@pytest.fixture(autouse=True)
def _nothing_left():
    yield
    assert not pools.POOLS.in_use()


@pytest.mark.rule("R7")
@pytest.mark.rule("T4")
@pytest.mark.parametrize("prefer", ["archive", "kafka"])
def test_a_read_survives_a_split_at_every_event(prefer):
    """Whatever the runner does, in the middle of a call or after it: the same records, and no rule broken."""
    log = small_log()
    report = exhaust(read(log, prefer=prefer), ELEMENT)
    assert [value for value, _ in report.emitted] == [record.value for record in log.records(0)]
    assert report.splits > 100
    assert report.refused > 100


@pytest.mark.rule("R7")
def test_an_unbounded_read_survives_a_split_at_every_event():
    """Over a log that does not grow."""
    log = small_log()
    report = exhaust(read(log, stop=None), ELEMENT)
    assert [value for value, _ in report.emitted] == [record.value for record in log.records(0)]


@pytest.mark.rule("R6")
def test_a_stop_at_an_instant_to_come_survives_a_split_at_every_event():
    """The first record of that instant ends it, in every run at the same place."""
    log = small_log()
    report = exhaust(read(log, stop=Stop.at("1970-01-01T00:00:08Z"), clock=ManualClock(0)), ELEMENT)
    wanted = [record.value for record in log.records(0)]
    first = next(i for i, record in enumerate(log.records(0)) if record.timestamp >= 8_000)
    assert [value for value, _ in report.emitted] == wanted[:first]


@pytest.mark.rule("R1")
@given(worlds(), st.sampled_from(("archive", "kafka")), st.integers(0, 2**16))
def test_random_worlds_survive_random_splits(world, prefer, seed):
    """Holes, compaction, overlapping flushes, any range: emitted once, in order, as the list says."""
    if world.first_missing() is not None:
        return
    options = {"start": Start.offsets({0: world.start}), "stop": Stop.offsets({0: world.stop})}
    report = sample(read(world.log, prefer=prefer, **options), ELEMENT, runs=3, seed=seed)
    wanted = [(record.value, record.timestamp * 1_000) for record in world.wanted()]
    assert list(report.emitted) == wanted


@pytest.mark.rule("R7")
@pytest.mark.rule("T4")
def test_an_unordered_read_survives_a_split_at_every_event_and_fraction():
    """Pieces cut at flush ends, and by the runner anywhere: each record once, no watermark above what is to come."""
    log = small_log()
    report = exhaust(read(log, ordered=False), ELEMENT)
    assert [value for value, _ in report.emitted] == [record.value for record in log.records(0)]
    ordered = exhaust(read(small_log()), ELEMENT)
    assert report.splits > ordered.splits * 1.3


@pytest.mark.rule("R7")
@given(worlds(), st.integers(0, 2**16))
def test_random_worlds_are_read_without_order_under_random_splits(world, seed):
    """Holes, compaction, overlapping flushes, any range: emitted once, by offset what the list says."""
    if world.first_missing() is not None:
        return
    options = {"start": Start.offsets({0: world.start}), "stop": Stop.offsets({0: world.stop})}
    report = sample(read(world.log, ordered=False, **options), ELEMENT, runs=3, seed=seed)
    wanted = [(record.value, record.timestamp * 1_000) for record in world.wanted()]
    assert list(report.emitted) == wanted


@pytest.mark.rule("R5", "B1")
def test_a_skipped_gap_is_one_dead_letter_whatever_the_splits():
    """And what lies on both sides of it is read once."""
    log = small_log()
    for flush in log.archive.index(TP):
        log.remove(0, flush)
    report = exhaust(read(log, start=Start.offsets({0: 0}), on_gap="skip", dead_letters=True), ELEMENT)
    assert [(letter.offset, letter.stop, letter.reason) for letter in report.dead_letters] == [(0, 8, "gap")]
    assert [value for value, _ in report.emitted] == [record.value for record in log.records(0)]


def bad_time(record):
    """No event time in every fourth record."""
    if record.offset % 4 == 1:
        raise ValueError("no time")
    return Timestamp(micros=record.timestamp * 1_000)


@pytest.mark.rule("B1")
def test_records_without_event_time_are_dead_letters_whatever_the_splits():
    """Each of them once, with its bytes; the others keep their order."""
    log = small_log()
    report = exhaust(read(log, timestamp_fn=bad_time, dead_letters=True), ELEMENT)
    records = log.records(0)
    good = [record.value for record in records if record.offset % 4 != 1]
    assert [value for value, _ in report.emitted] == good
    bad = [record.offset for record in records if record.offset % 4 == 1]
    assert [letter.record and letter.record.offset for letter in report.dead_letters] == bad


def hasty(state, newest, max_out_of_orderness):
    """Breaks T4: what is emitted moves the watermark in the same call."""
    earned = newest - max_out_of_orderness
    return replace(state, reported=max(earned, state.reported or earned), earned=earned)


def greedy(state, newest, max_out_of_orderness):
    """Breaks T1 and, with it, T4: earns more than it may."""
    del max_out_of_orderness
    return replace(state, earned=newest + 3_000_000)


def forgetful(state, cap):
    """Breaks T1: goes back."""
    return replace(state, reported=state.earned)


@pytest.mark.parametrize(
    ("function", "broken", "rule"),
    [("emitted", hasty, "T4"), ("emitted", greedy, "T[14]"), ("start_call", forgetful, "T1")],
)
def test_it_finds_a_watermark_that_breaks_a_rule(function, broken, rule, monkeypatch):
    """And names the rule."""
    monkeypatch.setattr(watermarks, function, broken)
    initial = Timestamp(-1_000)
    with pytest.raises(AssertionError, match=rf"^{rule}"):
        exhaust(read(small_log(), initial_watermark=initial if function == "start_call" else None), ELEMENT)


@pytest.mark.parametrize("off_by", [-1, 1])
def test_it_finds_a_split_that_loses_or_doubles_a_record(off_by, monkeypatch):
    """A residual that begins one offset off."""
    cut = LogRestriction.cut

    def crooked(self, offset, *more):
        primary, rest = cut(self, offset, *more)
        assert rest.stop is not None
        crooked_start = rest.start + (off_by if 0 < rest.start < rest.stop else 0)
        return primary, replace(rest, start=crooked_start)

    monkeypatch.setattr(LogRestriction, "cut", crooked)
    with pytest.raises(AssertionError, match=r"^R1"):
        exhaust(read(small_log()), ELEMENT)


def test_it_finds_a_call_that_returns_without_finishing(monkeypatch):
    """Beam would lose the rest."""
    monkeypatch.setattr(LogTracker, "try_claim", lambda self, position: False)
    with pytest.raises(ValueError, match="neither finished nor deferred"):
        exhaust(read(small_log()), ELEMENT)
