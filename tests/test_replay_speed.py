"""`ReadUnified(replay_speed=)`: nothing comes before its time, everything comes once and in order."""

from datetime import UTC, datetime, timedelta

import apache_beam as beam
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.util import assert_that, equal_to
from hypothesis import given
from hypothesis import strategies as st

from beam_unified import (
    ConfigError,
    KafkaTimestamp,
    RateLimit,
    ReadUnified,
    ReplaySpeed,
    Stop,
    SyncGroup,
    TopicPartition,
)
from beam_unified.testing import InMemoryLog, ManualClock
from tests.synced_reads import Readers

TP = TopicPartition("pins", 0)
NOW_MS = 1_000_000_000
START_MS = 500_000


def log_of(times, archived):
    log = InMemoryLog("pins")
    for ms in times:
        log.append(0, b"", timestamp=ms)
    if archived:
        log.flush(0, 0, archived)
        log.expire(0, archived)
    return log


def readers(log, clock, speed, total, *, group=None, **options):
    options = {"stop": Stop.offsets({0: total}), "replay_speed": speed, **options}
    return Readers({"pins": log}, clock, group, {"pins": options}, batch=4)


@st.composite
def worlds(draw):
    """Event times, about in order, of which some are long before the start; how many are archived; how the clock goes."""
    steps = draw(st.lists(st.integers(-3_000, 20_000), min_size=1, max_size=30))
    times, at = [], START_MS - 10_000
    for step in steps:
        at += step
        times.append(at)
    ticks = draw(st.lists(st.integers(0, 3_000), min_size=1, max_size=12))
    return times, draw(st.integers(0, len(times))), ticks, draw(st.sampled_from([0.5, 1.0, 10.0]))


@given(worlds(), st.booleans(), st.sampled_from([0, 2_000]))
def test_what_is_due_has_come_and_nothing_else(world, crashes, ramp_ms):
    """At every moment: the longest prefix of which all is due; each record once, in order; restarts change nothing."""
    times, archived, ticks, factor = world
    clock = ManualClock(NOW_MS)
    speed = ReplaySpeed(factor, datetime.fromtimestamp(START_MS / 1_000, UTC), timedelta(milliseconds=ramp_ms))
    pinned = speed.pinned(NOW_MS)
    with readers(log_of(times, archived), clock, speed, len(times)) as job:
        for tick in ticks:
            clock.advance(tick)
            due_ms = pinned.due_before(clock.now_ms()) / 1_000
            early = [at for at, ms in enumerate(times) if ms >= due_ms]
            wanted = times[: early[0]] if early else times
            for _ in range(3 * len(times) + 3):
                if TP in job.left:
                    job.run(TP)
            came = [micros // 1_000 for seen in job.seen for micros in seen.times]
            assert came == wanted
            if crashes:
                job.checkpoint()
                job.crash()
        clock.advance(10**9)
        for _ in range(3 * len(times) + 3):
            if TP in job.left:
                job.run(TP)
        assert [micros // 1_000 for seen in job.seen for micros in seen.times] == times
        assert job.left == []


def test_ramp():
    """Half of what the ramp lasts is lost; after it the speed is the factor's."""
    pinned = ReplaySpeed(10, "1970-01-01T00:00:00Z", timedelta(seconds=4)).pinned(0)
    assert [pinned.due_before(ms) for ms in (0, 2_000, 4_000, 5_000)] == [0, 5_000_000, 20_000_000, 30_000_000]


def test_what_is_not_due_is_kept_not_read_again():
    """One fetch of a stretch, however many calls give it out."""
    log, clock = log_of([START_MS + 1_000 * at for at in range(12)], 12), ManualClock(NOW_MS)
    opened = []
    connect = log.archive.connect

    with readers(log, clock, ReplaySpeed(1, "1970-01-01T00:08:20Z"), 12) as job:
        archive = connect()
        read = type(archive).open

        def counting(self, tp, flush, offset):
            opened.append(offset)
            return read(self, tp, flush, offset)

        type(archive).open = counting
        try:
            for _ in range(15):
                clock.advance(1_000)
                if TP in job.left:
                    job.run(TP)
        finally:
            type(archive).open = read
    assert sum(len(seen.times) for seen in job.seen) == 12
    assert opened == [0]


def test_with_a_rate_limit():
    """Neither limit is passed, and nothing is lost between the two."""
    log, clock = log_of([START_MS + 100 * at for at in range(40)], 20), ManualClock(NOW_MS)
    group = SyncGroup("pins", ["pins"], clock=clock)
    speed = ReplaySpeed(1, "1970-01-01T00:08:20Z")
    with readers(log, clock, speed, 40, group=group, rate_limit=RateLimit(records_per_s=5)) as job:
        for second in range(1, 30):
            for _ in range(10):
                clock.advance(100)
                if TP in job.left:
                    job.run(TP)
            came = sum(len(seen.times) for seen in job.seen)
            assert came <= min(10 * second, 5.5 * second + 5)
    times = [micros // 1_000 for seen in job.seen for micros in seen.times]
    assert times == [START_MS + 100 * at for at in range(40)]


def test_a_pipeline_comes_to_its_end():
    """On a runner that ignores delays, by the clock of this machine."""
    log = log_of([START_MS + 100 * at for at in range(40)], 20)
    with beam.Pipeline(runner=FnApiRunner()) as p:
        read = ReadUnified(
            "pins", log.kafka, log.archive, timestamp_fn=KafkaTimestamp(), output="record",
            stop=Stop.offsets({0: 40}), replay_speed=ReplaySpeed(10, "1970-01-01T00:08:20Z"),
        )  # fmt: skip
        assert_that(p | read | beam.Map(lambda record: record.offset), equal_to(range(40)))


@pytest.mark.parametrize(
    ("make", "wrong"),
    [
        (lambda: ReplaySpeed(0, "2026-11-16T00:00:00Z"), "factor"),
        (lambda: ReplaySpeed(1, "2026-11-16T00:00:00"), "time zone"),
        (lambda: ReplaySpeed(1, "2026-11-16T00:00:00Z", timedelta(-1)), "ramp"),
    ],
)
def test_what_cannot_work_is_refused(make, wrong):
    """When the pipeline is built, by the name of the option."""
    with pytest.raises(ConfigError, match=f"replay_speed.*{wrong}"):
        make()


def test_order_is_needed():
    """Pieces of one partition lie days apart."""
    log = InMemoryLog("pins")
    speed = ReplaySpeed(1, "2026-11-16T00:00:00Z")
    with pytest.raises(ConfigError, match="replay_speed and ordered=False"):
        ReadUnified("pins", log.kafka, log.archive, timestamp_fn=KafkaTimestamp(), ordered=False, replay_speed=speed)
