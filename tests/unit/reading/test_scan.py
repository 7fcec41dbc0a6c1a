"""A scan of a range: all of it, and no endless wait for what does not come."""

from datetime import timedelta

import pytest

from beam_unified.errors import DataLossError, KafkaUnavailableError
from beam_unified.offsets import OffsetRange, TopicPartition
from beam_unified.reading.reader import Gap, LogReader, NothingYet, Progress, ReadOptions
from beam_unified.reading.scan import scan
from beam_unified.testing import InMemoryLog, ManualClock

TP = TopicPartition("pins", 0)


class WaitingClock(ManualClock):
    """Moves on when somebody waits."""

    def wait(self, seconds):
        self.advance(round(seconds * 1_000))


@pytest.fixture
def log():
    made = InMemoryLog("pins")
    for number in range(10):
        made.append(0, b"%d" % number, timestamp=number)
    return made


def scanned(log, start, stop, clock=None, options=ReadOptions(gap_timeout=timedelta(0)), **how):
    clock = clock or WaitingClock()
    return scan(LogReader(TP, log.kafka, log.archive, options, clock), TP, start, stop, clock=clock, **how)


def test_it_gives_every_record_of_the_range(log):
    """Over both stores, and through what Kafka answers nothing to for a while."""
    log.flush(0, 0, 6)
    log.expire(0, 4)
    log.stall(0, fetches=3)
    steps = list(scanned(log, 2, 9))
    values = [value for step in steps if isinstance(step, Progress) and step.batch for value in step.batch.values()]
    assert values == [b"%d" % number for number in range(2, 9)]
    assert sum(isinstance(step, NothingYet) for step in steps) == 3


def test_what_never_comes_is_an_error_after_a_while(log):
    """It names what it waited for. Waiting costs no processor: the clock stands still otherwise."""
    clock = WaitingClock()
    with pytest.raises(KafkaUnavailableError, match="offset 10 for 7 s, although 12"):
        list(scanned(log, 8, 12, clock, patience_s=7))
    assert clock.monotonic() == pytest.approx(7, abs=0.3)


def test_the_time_that_the_caller_takes_is_not_waiting(log):
    """Whoever reads the output may be slow: `less` is."""
    clock, steps = WaitingClock(), []
    log.stall(0, fetches=4)
    for step in scanned(log, 0, 10, clock, patience_s=5):
        clock.advance(60_000)
        steps.append(step)
    assert isinstance(steps[-1], Progress)


def test_gaps_are_what_the_options_say(log):
    """An error, or a step."""
    log.expire(0, 4)
    with pytest.raises(DataLossError):
        list(scanned(log, 0, 9))
    found = list(scanned(log, 0, 9, options=ReadOptions(on_gap="skip", gap_timeout=timedelta(0))))
    assert found[0] == Gap(offsets=OffsetRange(0, 4))


def test_without_a_stop_it_goes_on(log):
    """What is written meanwhile is read; there is no patience to be lost."""
    steps, seen = scanned(log, 10, None), list[bytes | None]()
    for _ in range(500):
        assert isinstance(next(steps), NothingYet)
    log.append(0, b"new", timestamp=11)
    while not seen:
        step = next(steps)
        seen = list(step.batch.values()) if isinstance(step, Progress) and step.batch else []
    assert seen == [b"new"]
