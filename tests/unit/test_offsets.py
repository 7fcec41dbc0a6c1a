"""Offsets: what a range holds, and which ranges there are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_unified.offsets import MAX_OFFSET, OffsetRange, TopicPartition
from tests.strategies import OFFSETS


def test_the_largest_offset_is_that_of_the_protocol():
    """Kafka's offsets are int64."""
    assert MAX_OFFSET.to_bytes(8, "big", signed=True) == b"\x7f" + b"\xff" * 7


@given(st.integers(-2, 6), st.integers(-2, 6), st.integers(-2, 6))
def test_a_range_holds_its_start_and_not_its_stop(start, stop, offset):
    """Exactly the offsets that `range` has; one that ends before it starts or is negative does not exist."""
    if not 0 <= start <= stop:
        with pytest.raises(ValueError, match=rf"needs 0 <= start <= stop, got \[{start}, {stop}\)"):
            OffsetRange(start, stop)
        return
    assert (offset in OffsetRange(start, stop)) == (offset in range(start, stop))


@given(OFFSETS)
def test_a_range_may_reach_to_the_largest_offset_and_no_further(start):
    """It is what can be written down as int64."""
    assert str(OffsetRange(start, MAX_OFFSET)) == f"[{start}, {MAX_OFFSET})"
    with pytest.raises(ValueError, match="offset range needs"):
        OffsetRange(start, MAX_OFFSET + 1)


def test_partitions_are_ordered_by_topic_and_number():
    """So that they are created, listed and reported in one order."""
    low, high, other = TopicPartition("a", 2), TopicPartition("a", 10), TopicPartition("b", 0)
    assert sorted([other, high, low]) == [low, high, other]
    assert str(high) == "a[10]"
