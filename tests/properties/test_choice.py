"""choose(): every offset of random worlds gets exactly one answer, and the right one."""

from hypothesis import given
from hypothesis import strategies as st

from beam_unified.flushes import FlushIndex
from beam_unified.offsets import OffsetRange
from beam_unified.reading.choice import FromArchive, FromKafka, Missing, Truncated, choose
from tests.strategies import flush_lists


@st.composite
def held_ranges(draw):
    """What Kafka holds."""
    start = draw(st.integers(0, 45))
    return OffsetRange(start, draw(st.integers(start, 50)))


@given(flush_lists(), held_ranges(), st.sampled_from(("archive", "kafka")), st.integers(0, 55))
def test_every_offset_gets_the_one_right_answer(flushes, held, prefer, offset):
    """Archived -> archive; in Kafka or at its end -> Kafka; below, missing; above, truncated. Nothing else, no overlap."""
    answer = choose(offset, index=FlushIndex(flushes), not_in_kafka=held, prefer=prefer)
    covering = [flush for flush in flushes if flush.start <= offset < flush.stop]
    if covering:
        assert isinstance(answer, FromArchive)
        assert answer.flush in covering
        assert answer.flush.stop == max(flush.stop for flush in covering)
    elif held.start <= offset <= held.stop:
        assert answer == FromKafka()
    elif offset > held.stop:
        assert answer == Truncated(held)
    else:
        assert isinstance(answer, Missing)


@given(flush_lists(), held_ranges(), st.sampled_from(("archive", "kafka")), st.integers(0, 55))
def test_a_missing_range_is_in_neither_store_and_maximal(flushes, held, prefer, offset):
    """Rule R5: the error names the whole gap, first and last offset, and nothing that exists."""
    answer = choose(offset, index=FlushIndex(flushes), not_in_kafka=held, prefer=prefer)
    if not isinstance(answer, Missing):
        return

    def in_a_store(at):
        return at >= held.start or any(flush.start <= at < flush.stop for flush in flushes)

    assert answer.offsets.start == offset
    assert answer.offsets.stop > offset
    assert not any(in_a_store(at) for at in range(answer.offsets.start, answer.offsets.stop))
    assert in_a_store(answer.offsets.stop)


@given(flush_lists(), st.integers(0, 55))
def test_kafka_is_asked_before_anything_is_called_missing(flushes, offset):
    """As long as Kafka has not said no, the answer is a store: the archive if it is complete there, else Kafka."""
    index = FlushIndex(flushes)
    assert choose(offset, index=index, not_in_kafka=None, prefer="kafka") == FromKafka()
    answer = choose(offset, index=index, not_in_kafka=None, prefer="archive")
    assert isinstance(answer, FromArchive if index.covering(offset) is not None else FromKafka)
