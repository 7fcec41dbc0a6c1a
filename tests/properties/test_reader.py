"""LogReader over random worlds against a list: the records from start to stop, once, in order, or an error for a true gap."""

import re
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from beam_unified.errors import DataLossError
from beam_unified.reading.reader import LogReader, Progress, ReadOptions
from beam_unified.records import Record
from beam_unified.testing import InMemoryLog, ManualClock
from tests.strategies import TOPIC, TP, CachedListing, without_store, worlds

PREFER = st.sampled_from(("archive", "kafka"))


class Reader:
    """Reads a world to its stop. `lives` is after how many reads it is closed and made anew, as after a restart."""

    def __init__(self, log, *, prefer, max_records, cached, lives=1_000, gap_timeout=2):
        self._log, self._max_records, self._lives = log, max_records, lives
        self._archive = CachedListing(log.archive) if cached else log.archive
        self._options = ReadOptions(prefer=prefer, gap_timeout=timedelta(seconds=gap_timeout))
        self._clock = ManualClock()
        self._reads = 0
        self._reader: LogReader | None = None

    def step(self, offset, stop):
        """One read; time passes where there is nothing."""
        if self._reader is None or self._reads % self._lives == 0:
            self._reader = LogReader(TP, self._log.kafka, self._archive, self._options, self._clock)
        self._reads += 1
        step = self._reader.read(offset, stop=stop, max_records=self._max_records, timeout_ms=0)
        if not isinstance(step, Progress):
            self._clock.advance(400)
        return step

    def read(self, start, stop, found):
        """Everything from start to stop, into `found`."""
        offset = start
        for _ in range(2_000):
            if offset >= stop:
                return
            step = self.step(offset, stop)
            if isinstance(step, Progress):
                assert offset <= step.next_offset <= stop
                if step.batch is not None:
                    offsets = list(step.batch.offsets())
                    assert offset <= offsets[0]
                    assert offsets[-1] < step.next_offset
                    assert 0 < len(offsets) <= self._max_records
                    found += step.batch.records()
                offset = step.next_offset
        raise AssertionError(f"stuck at offset {offset}")


def equal(found, wanted):
    """Equal records in equal order, wherever they were read."""
    assert list(without_store(found)) == list(without_store(wanted))


@pytest.mark.rule("R1")
@given(worlds(), PREFER, st.integers(1, 10), st.booleans(), st.sampled_from((1, 2, 1_000)))
def test_a_still_world_is_read_exactly_or_its_gap_is_named(world, prefer, max_records, cached, lives):
    """Overlapping flushes, holes, compaction, retention, any start and stop, any batch size, restarts: all the same."""
    lives = 1_000 if world.first_missing() is not None else lives  # patience in front of a gap is a reader's own
    reader, found = (
        Reader(world.log, prefer=prefer, max_records=max_records, cached=cached, lives=lives),
        list[Record](),
    )
    missing = world.first_missing()
    if missing is None:
        reader.read(world.start, world.stop, found)
        equal(found, world.wanted())
        return
    with pytest.raises(DataLossError, match=rf"pins\[0\]: offsets {missing} to "):
        reader.read(world.start, world.stop, found)
    equal(found, world.wanted(missing))


@pytest.mark.rule("R2")
@given(worlds(moving=True), PREFER, st.integers(1, 10), st.booleans())
def test_a_world_that_moves_is_read_exactly_or_a_true_gap_is_named(world, prefer, max_records, cached):
    """Retention passes in mid-read, files land late: nothing lost or doubled, and an error only for what is nowhere."""
    reader, found = Reader(world.log, prefer=prefer, max_records=max_records, cached=cached), list[Record]()
    try:
        reader.read(world.start, world.stop, found)
    except DataLossError as error:
        gap = re.search(r"offsets (\d+) to (\d+) are in neither", str(error))
    else:
        equal(found, world.wanted())
        return
    assert gap is not None
    first, last = map(int, gap.groups())
    assert not any(world.in_a_store(offset) for offset in range(first, last + 1))
    assert last + 1 == world.stop or world.in_a_store(last + 1) or last + 1 >= world.log.kafka.bounds(TP).stop
    equal(found, world.wanted(first))


class LogMachine(RuleBasedStateMachine):
    """Producers, an archiver, retention and two readers, in any order, against a list."""

    def __init__(self):
        super().__init__()
        self.log = InMemoryLog(TOPIC)
        self.model: dict[int, Record] = {}
        self.readers = {
            prefer: Reader(self.log, prefer=prefer, max_records=max_records, cached=cached)
            for prefer, max_records, cached in (("archive", 3, True), ("kafka", 5, False))
        }
        self.at = dict.fromkeys(self.readers, 0)
        self.found = {prefer: list[Record]() for prefer in self.readers}

    def _end(self):
        return self.log.kafka.bounds(TP).stop

    @rule(count=st.integers(1, 6))
    def produce(self, count):
        for _ in range(count):
            offset = self.log.append(0, b"%d" % len(self.model), timestamp=len(self.model))
            self.model[offset] = self.log.records(0)[-1]

    @rule(count=st.integers(1, 3))
    def abort_a_transaction(self, count):
        self.log.hole(0, count)

    @rule()
    @precondition(lambda self: (self.log.archive.index(TP).stop or 0) < self._end())
    def archive_the_rest(self):
        self.log.flush(0)

    @rule(data=st.data())
    @precondition(lambda self: self.log.kafka.bounds(TP).start < self._end())
    def archive_again_with_other_boundaries(self, data):
        """What Kafka still holds and the archive touches already: an overlap, never a hole in the archive."""
        low = self.log.kafka.bounds(TP).start
        archived = self.log.archive.index(TP).stop or 0
        if low <= archived:
            start = data.draw(st.integers(low, min(archived, self._end() - 1)))
            self.log.flush(0, start, data.draw(st.integers(start + 1, self._end())))

    @rule(data=st.data())
    def retention(self, data):
        """Kafka forgets some of what is archived."""
        self.log.expire(0, data.draw(st.integers(0, self.log.archive.index(TP).stop or 0)))

    @rule(prefer=PREFER)
    def read(self, prefer):
        step = self.readers[prefer].step(self.at[prefer], None)
        if isinstance(step, Progress):
            assert step.next_offset >= self.at[prefer]
            self.at[prefer] = step.next_offset
            self.found[prefer] += [] if step.batch is None else step.batch.records()

    @rule(prefer=PREFER)
    def restart(self, prefer):
        self.readers[prefer]._reader = None

    @invariant()
    def each_reader_has_seen_exactly_what_lies_below_its_offset(self):
        for prefer, at in self.at.items():
            equal(self.found[prefer], [record for offset, record in sorted(self.model.items()) if offset < at])

    def teardown(self):
        """Every reader gets to the end: archived before it was forgotten means that nothing can be missing."""
        for prefer, reader in self.readers.items():
            rest = list[Record]()
            reader.read(self.at[prefer], self._end(), rest)
            equal(self.found[prefer] + rest, list(self.model.values()))


TestLogMachine = LogMachine.TestCase
