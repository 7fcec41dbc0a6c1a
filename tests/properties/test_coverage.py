"""What is said of a log before it is read is what a reader does."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_unified.flushes import Flush, FlushIndex
from beam_unified.inspection.coverage import gaps, overlaps, stretches
from beam_unified.inspection.survey import survey
from beam_unified.offsets import OffsetRange
from beam_unified.reading.choice import FromArchive, FromKafka
from beam_unified.reading.reader import Gap, LogReader, NothingYet, ReadOptions
from beam_unified.testing import InMemoryLog, ManualClock
from tests.strategies import TOPIC, TP, flush_lists, worlds

NAMES = {FromArchive: "archive", FromKafka: "kafka"}


@given(worlds(), st.sampled_from(("archive", "kafka")), st.integers(1, 9))
def test_stretches_are_what_a_reader_reads(world, prefer, max_records):
    """Offset by offset: from which store a reader takes it, or that it gives it up as missing."""
    log = world.log
    found = stretches(
        OffsetRange(world.start, world.stop), index=log.archive.index(TP), held=log.kafka.bounds(TP), prefer=prefer
    )
    said = [NAMES.get(type(one.served), "missing") for one in found for _ in range(one.offsets.start, one.offsets.stop)]
    options = ReadOptions(prefer=prefer, on_gap="skip", gap_timeout=timedelta(0))
    reader, at, done = LogReader(TP, log.kafka, log.archive, options, ManualClock()), world.start, []
    while at < world.stop:
        step = reader.read(at, stop=world.stop, max_records=max_records, timeout_ms=0)
        assert not isinstance(step, NothingYet)
        done += ["missing" if isinstance(step, Gap) else step.store.value] * (step.next_offset - at)
        at = step.next_offset
    assert said == done


@given(worlds())
def test_gaps_are_what_no_store_has(world):
    """Of the whole log: exactly the offsets that neither Kafka nor a flush covers."""
    (found,) = survey(TOPIC, world.log.kafka, world.log.archive)
    missing = {offset for gap in found.gaps for offset in range(gap.start, gap.stop)}
    assert missing == {o for o in range(found.whole.start, found.whole.stop) if not world.in_a_store(o)}
    assert all(one.stop < two.start for one, two in zip(found.gaps, found.gaps[1:], strict=False))


@given(worlds())
def test_the_handoff_is_where_the_archive_is_left_for_good(world):
    """From the handoff on Kafka serves everything; just before it something else does."""
    (found,) = survey(TOPIC, world.log.kafka, world.log.archive)
    if found.handoff is None:
        return
    assert found.held.start <= found.handoff <= found.held.stop
    served = {o: one.served for one in found.stretches for o in range(one.offsets.start, one.offsets.stop)}
    assert all(isinstance(served[o], FromKafka) for o in range(found.handoff, found.whole.stop))
    assert not isinstance(served[found.handoff - 1], FromKafka)


@given(flush_lists())
def test_overlaps_name_every_offset_that_two_flushes_have(flushes):
    """Each overlap is one; each offset of several flushes is in an overlap."""
    named = set[int]()
    for first, second in overlaps(FlushIndex(flushes)):
        shared = set(range(first.start, first.stop)) & set(range(second.start, second.stop))
        assert shared
        named |= shared
    assert named == {o for o in range(40) if sum(f.start <= o < f.stop for f in flushes) > 1}


def test_nothing_is_said_of_what_lies_beyond_the_log():
    """A stop that is still to come is neither Kafka's nor missing."""
    found = stretches(OffsetRange(3, 100), index=FlushIndex(), held=OffsetRange(0, 5))
    assert [one.offsets for one in found] == [OffsetRange(3, 5)]
    assert gaps(found) == ()


@pytest.mark.parametrize(("prefer", "handoff"), [("kafka", 5), ("archive", 8)])
def test_a_reader_that_prefers_kafka_leaves_a_flush_where_kafka_begins(prefer, handoff):
    """R2: in the middle of the file; one that prefers the archive reads it to its end."""
    index, held = FlushIndex([Flush(0, 8, None, None)]), OffsetRange(5, 10)
    found = stretches(OffsetRange(2, 10), index=index, held=held, prefer=prefer)
    assert [one.offsets for one in found] == [OffsetRange(2, handoff), OffsetRange(handoff, 10)]


def test_an_archive_that_reaches_beyond_kafkas_log_has_no_handoff():
    """The topic was created anew: what lies between its end and the next flush is one gap."""
    log = InMemoryLog(TOPIC)
    for _ in range(10):
        log.append(0, b"x")
    log.flush(0, 0, 3)
    log.flush(0, 8, 10)
    log.create_anew()
    log.expire(0, 5)
    (found,) = survey(TOPIC, log.kafka, log.archive)
    assert (found.gaps, found.handoff, found.lag) == ((OffsetRange(3, 8),), None, 0)
