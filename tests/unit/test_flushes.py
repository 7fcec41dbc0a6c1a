"""The archive's index as a value; tests/properties/test_flushes.py compares it with a plain search."""

import pytest
from hypothesis import given

from beam_unified.flushes import Flush, FlushIndex
from tests.strategies import OFFSETS


def flush(start, stop, low=None, high=None):
    return Flush(start, stop, low, high)


@pytest.mark.parametrize(("start", "stop"), [(5, 5), (6, 5), (-1, 5), (0, 2**63)])
def test_a_flush_covers_at_least_one_offset_of_those_there_are(start, stop):
    """An empty, reversed or impossible range is refused, with the range."""
    with pytest.raises(ValueError, match=rf"\[{start}, {stop}\)"):
        flush(start, stop)


@given(OFFSETS)
def test_an_empty_flush_is_refused_wherever_it_is(offset):
    """A commit without records is a mistake of the writer."""
    with pytest.raises(ValueError, match=rf"at least one offset, got \[{offset}, {offset}\)"):
        flush(offset, int(str(offset)))


@pytest.mark.parametrize(("low", "high"), [(None, 5), (5, None)])
def test_timestamps_are_both_known_or_both_unknown(low, high):
    """Half a range of time would be searched wrongly."""
    with pytest.raises(ValueError, match="together or not at all"):
        flush(0, 5, low, high)


def test_an_empty_index_has_no_bounds():
    """None, never 0: offset 0 is an offset."""
    index = FlushIndex()
    assert (index.start, index.stop, len(index)) == (None, None, 0)
    assert index.covering(0) is None
    assert index.next_start(0) is None
    assert list(index.reaching(0)) == []


@pytest.mark.rule("R1")
def test_neighbouring_flushes_touch():
    """The stop of one is the start of the next: the handoff is by exact offset."""
    first, second = flush(0, 5), flush(5, 9)
    index = FlushIndex([second, first])
    assert (index.start, index.stop) == (0, 9)
    assert index.covering(4) == first
    assert index.covering(5) == second
    assert index.covering(9) is None


@pytest.mark.rule("R1")
def test_of_overlapping_flushes_the_one_that_reaches_furthest_is_read():
    """A short flush that starts later does not hide a long one that starts earlier."""
    long, short = flush(0, 100), flush(50, 60)
    index = FlushIndex([short, long])
    assert index.covering(55) == long
    assert index.covering(70) == long


def test_of_flushes_that_reach_equally_far_the_one_that_starts_last_is_read():
    """Less of it must be skipped."""
    long, short = flush(0, 100), flush(50, 100)
    index = FlushIndex([short, long])
    assert index.covering(49) == long
    assert index.covering(50) == short


@pytest.mark.rule("R5")
def test_a_gap_in_the_archive_ends_at_the_next_flush():
    """next_start says where the archive goes on."""
    index = FlushIndex([flush(0, 5), flush(8, 9)])
    assert index.covering(5) is None
    assert index.next_start(5) == 8
    assert index.next_start(8) is None


@pytest.mark.rule("R1")
def test_an_archive_of_many_flushes_is_followed_to_its_end():
    """Hundreds a partition are ordinary."""
    index = FlushIndex([flush(at, at + 1) for at in range(300)])
    assert index.next_start(298) == 299
    assert index.next_start(299) is None
    assert index.covering(300) is None


@pytest.mark.rule("R6")
def test_the_first_flush_that_reaches_an_instant_is_found_by_its_largest_timestamp():
    """Records out of order: a later flush may be older, and a flush without timestamps holds none."""
    first, silent, second = flush(0, 5, 10, 30), flush(5, 6), flush(6, 9, 5, 40)
    index = FlushIndex([first, silent, second])
    assert next(index.reaching(30)) == first
    assert next(index.reaching(31)) == second
    assert list(index.reaching(41)) == []


def test_the_order_in_which_flushes_were_listed_does_not_matter():
    """Listings come in any order."""
    flushes = [flush(3, 9), flush(0, 5), flush(0, 4)]
    assert FlushIndex(flushes) == FlushIndex(reversed(flushes))
    assert hash(FlushIndex(flushes)) == hash(FlushIndex(reversed(flushes)))
    assert FlushIndex(flushes) != FlushIndex(flushes[:2])
    assert list(FlushIndex(flushes)) == [flush(0, 4), flush(0, 5), flush(3, 9)]
