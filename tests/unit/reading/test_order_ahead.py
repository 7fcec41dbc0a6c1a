"""Which flushes a reader has opened before their turn, and what becomes of those that it does not come to."""

from dataclasses import dataclass, field

import pytest

from beam_unified.errors import ArchiveUnavailableError
from beam_unified.reading import reader
from beam_unified.reading.reader import LogReader, NothingYet, ReadOptions
from beam_unified.testing import InMemoryLog, ManualClock
from tests.strategies import TP


@dataclass
class AheadArchive:
    """The archive in memory, with flushes that are opened when they are taken; it notes what is asked of it."""

    log: InMemoryLog
    fails: bool = False
    ordered: list[int] = field(default_factory=list)
    taken: list[int] = field(default_factory=list)
    dropped: list[int] = field(default_factory=list)
    opened: list[int] = field(default_factory=list)

    def __post_init__(self):
        self._archive = self.log.archive.connect()

    @property
    def index_is_proof(self):
        return self._archive.index_is_proof

    def url(self, tp, flush):
        return self._archive.url(tp, flush)

    def index(self, tp, *, refresh=False):
        return self._archive.index(tp, refresh=refresh)

    def check(self, topic, *, isolation_level, must_exist=True):
        self._archive.check(topic, isolation_level=isolation_level, must_exist=must_exist)

    def close(self):
        self._archive.close()

    def open(self, tp, flush, offset):
        self.opened.append(offset)
        return self._archive.open(tp, flush, offset)

    def open_ahead(self, tp, flush, offset):
        self.ordered.append(offset)
        return Ordered(self, lambda: self._archive.open(tp, flush, offset), offset)


class Ordered:
    def __init__(self, archive, open_flush, offset):
        self._archive, self._open, self._offset = archive, open_flush, offset

    def take(self):
        if self._archive.fails:
            raise ArchiveUnavailableError("ahead")
        self._archive.taken.append(self._offset)
        return self._open()

    def close(self):
        self._archive.dropped.append(self._offset)


def world(*lengths):
    """Flushes of so many records, one behind the other, and nothing else."""
    log = InMemoryLog(TP.topic)
    for length in lengths:
        for _ in range(length):
            log.append(0, b"", timestamp=1)
        log.flush(0)
    log.expire(0, sum(lengths))
    archive = AheadArchive(log)
    return archive, LogReader(TP, log.kafka.connect(), archive, ReadOptions(), ManualClock())


def read_on(opened, offset, stop=None):
    """The next offset."""
    return opened.read(offset, stop=stop, max_records=2, timeout_ms=0).next_offset


def read_all(opened, offset=0, stop=None):
    """Up to the stop, or to where there is nothing."""
    while offset != stop:
        step = opened.read(offset, stop=stop, max_records=2, timeout_ms=0)
        if isinstance(step, NothingYet):
            break
        offset = step.next_offset
    return offset


def test_small_flushes_are_ordered_a_few_at_a_time():
    """As many as there is room for, each once; what was ordered is what is read."""
    archive, opened = world(*[4] * 9)
    read_on(opened, 0)
    assert archive.ordered == [4, 8, 12, 16]
    assert read_all(opened, 2) == 36
    assert archive.ordered == archive.taken == list(range(4, 36, 4))
    assert archive.opened == [0]
    assert archive.dropped == []


def test_of_large_flushes_the_next_one_is_ordered_in_the_second_half(monkeypatch):
    """So that two are held for half of the time only, and never three."""
    monkeypatch.setattr(reader, "_AHEAD_OFFSETS", 0)
    archive, opened = world(10, 10, 10)
    seen = []
    for offset in range(0, 10, 2):
        read_on(opened, offset)
        seen.append(list(archive.ordered))
    assert seen == [[], [], [10], [10], [10]]


@pytest.mark.parametrize(("stop", "ordered"), [(4, []), (5, [4]), (8, [4])])
def test_what_lies_behind_the_stop_is_not_ordered(stop, ordered):
    """A piece of an unordered partition ends there."""
    archive, opened = world(4, 4, 4)
    assert read_all(opened, stop=stop) == stop
    assert archive.ordered == ordered


def test_a_reader_that_is_sent_elsewhere_drops_what_it_ordered():
    """After a restore, or beside a runner that handed the rest to another worker; and when it is closed."""
    archive, opened = world(4, 4, 4)
    assert read_on(opened, 0) == 2
    assert read_on(opened, 9) == 11
    assert sorted(archive.dropped) == [4, 8]
    assert archive.taken == []
    assert read_on(opened, 0) == 2
    opened.close()
    opened.close()
    assert sorted(archive.dropped) == [4, 4, 8, 8]


@pytest.mark.rule("R1")
def test_a_flush_that_comes_in_between_is_read_all_the_same():
    """The index is what counts: what was ordered by an older one is dropped."""
    archive, opened = world(4, 4, 4)
    read_on(opened, 0)
    archive.log.flush(0, 4, 12)
    assert read_all(opened, 2) == 12


@pytest.mark.rule("B2")
def test_what_fails_before_its_turn_is_tried_again_when_it_comes():
    """An error belongs where a reader without threads would meet it, and not there if it has passed."""
    archive, opened = world(4, 4)
    read_on(opened, 0)
    archive.fails = True
    assert read_all(opened, 2) == 8
    assert archive.opened == [0, 4]


def test_nothing_is_held_once_kafka_serves():
    """The archive may end where a flush was ordered that is gone by now."""
    archive, opened = world(4, 4)
    for _ in range(2):
        archive.log.append(0, b"", timestamp=1)
    assert read_all(opened) == 10
    assert len(archive.taken) + len(archive.dropped) == len(archive.ordered)
