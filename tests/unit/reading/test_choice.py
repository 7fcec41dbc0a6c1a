"""Which store serves an offset; tests/properties/test_choice.py asks every offset of random worlds."""

import pickle

import pytest
from hypothesis import given

from beam_unified.flushes import Flush, FlushIndex
from beam_unified.offsets import OffsetRange
from beam_unified.reading.choice import FromArchive, FromKafka, Missing, Truncated, choose
from tests.strategies import OFFSETS

FIRST, SECOND = Flush(0, 5, None, None), Flush(8, 10, None, None)
INDEX = FlushIndex([FIRST, SECOND])


@pytest.mark.rule("R2")
def test_archive_is_preferred_where_it_is_complete():
    """The default spares the brokers."""
    assert choose(4, index=INDEX, not_in_kafka=None, prefer="archive") == FromArchive(FIRST)


@pytest.mark.rule("R2")
def test_kafka_can_be_preferred_over_a_complete_archive():
    """Then it is asked first, whatever the archive holds."""
    assert choose(4, index=INDEX, not_in_kafka=None, prefer="kafka") == FromKafka()


@pytest.mark.rule("R2")
def test_a_preference_holds_on_workers_too():
    """It comes to them pickled: equal to the word in the code, and another object."""
    prefer = pickle.loads(pickle.dumps("archive"))
    assert choose(4, index=INDEX, not_in_kafka=None, prefer=prefer) == FromArchive(FIRST)


@pytest.mark.rule("R2")
@pytest.mark.parametrize("prefer", ["archive", "kafka"])
def test_what_fell_off_kafka_is_read_from_the_archive(prefer):
    """Back to the archive, whichever is preferred."""
    assert choose(4, index=INDEX, not_in_kafka=OffsetRange(9, 20), prefer=prefer) == FromArchive(FIRST)


def test_kafka_is_asked_where_the_archive_has_nothing():
    """Before Kafka has said that it does not hold an offset, it may."""
    assert choose(5, index=INDEX, not_in_kafka=None, prefer="archive") == FromKafka()


@pytest.mark.rule("R4")
@pytest.mark.parametrize("offset", [15, 19, 20])
def test_an_offset_inside_of_what_kafka_holds_now_is_asked_for_again(offset):
    """The log moved between fetch and question; its end is where the next record will be."""
    assert choose(offset, index=INDEX, not_in_kafka=OffsetRange(15, 20), prefer="archive") == FromKafka()


@pytest.mark.rule("R4")
@given(OFFSETS)
def test_the_end_of_what_kafka_holds_is_never_a_truncation(stop):
    """However large: offsets are compared as numbers."""
    offset = int(str(stop))
    assert choose(offset, index=FlushIndex(), not_in_kafka=OffsetRange(0, stop), prefer="archive") == FromKafka()


@pytest.mark.rule("R5")
def test_a_gap_reaches_to_where_either_store_goes_on():
    """The missing range ends at the next flush or at Kafka's start, whichever comes first."""
    assert choose(5, index=INDEX, not_in_kafka=OffsetRange(30, 40), prefer="archive") == Missing(OffsetRange(5, 8))
    assert choose(5, index=INDEX, not_in_kafka=OffsetRange(7, 40), prefer="archive") == Missing(OffsetRange(5, 7))
    assert choose(10, index=INDEX, not_in_kafka=OffsetRange(30, 40), prefer="archive") == Missing(OffsetRange(10, 30))


@pytest.mark.rule("R2")
def test_an_offset_above_the_end_is_a_truncated_log():
    """Not a gap: there are no later records."""
    held = OffsetRange(0, 20)
    assert choose(21, index=FlushIndex(), not_in_kafka=held, prefer="archive") == Truncated(held)
