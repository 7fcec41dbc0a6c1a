"""FlushIndex against a search of every flush, overlaps included."""

from hypothesis import given
from hypothesis import strategies as st

from beam_unified.flushes import FlushIndex
from beam_unified.offsets import OffsetRange
from tests.strategies import flush_lists


@given(flush_lists(), st.integers(0, 45))
def test_lookups_by_offset_equal_a_plain_search(flushes, offset):
    """covering: one that covers the offset, reaching furthest; next_start: the smallest above."""
    index = FlushIndex(flushes)
    covering = [flush for flush in flushes if flush.start <= offset < flush.stop]
    found = index.covering(offset)
    assert (found is None) == (not covering)
    if found is not None:
        assert found in covering
        assert found.stop == max(flush.stop for flush in covering)
    assert index.next_start(offset) == min((f.start for f in flushes if f.start > offset), default=None)


@given(flush_lists(), st.integers(0, 45), st.integers(1, 45))
def test_what_overlaps_equals_a_plain_search(flushes, start, length):
    """Every flush that covers some of a range, by start."""
    stop = start + length
    wanted = [flush for flush in FlushIndex(flushes) if max(flush.start, start) < min(flush.stop, stop)]
    assert list(FlushIndex(flushes).overlapping(OffsetRange(start, stop))) == wanted


@given(flush_lists())
def test_bounds_are_those_of_all_flushes(flushes):
    """First start, last stop, wherever they stand."""
    index = FlushIndex(flushes)
    assert index.start == min((flush.start for flush in flushes), default=None)
    assert index.stop == max((flush.stop for flush in flushes), default=None)


@given(flush_lists(), st.integers(-1, 105))
def test_lookups_by_time_equal_a_plain_search(flushes, instant):
    """reaching: the flushes that hold a record at or after the instant, and no other, by start."""
    reaching = [flush for flush in flushes if flush.max_timestamp is not None and flush.max_timestamp >= instant]
    found = list(FlushIndex(flushes).reaching(instant))
    assert found == sorted(reaching, key=lambda flush: (flush.start, flush.stop))


@given(flush_lists().flatmap(lambda flushes: st.tuples(st.just(flushes), st.permutations(flushes))))
def test_the_order_of_a_listing_does_not_matter(both):
    """Equal, with equal hashes, and every flush listed once."""
    one, other = (FlushIndex(flushes) for flushes in both)
    assert one == other
    assert hash(one) == hash(other)
    assert set(one) == set(both[0])
    assert len(one) == len(both[0])


@given(flush_lists())
def test_going_from_flush_to_flush_visits_exactly_what_is_covered(flushes):
    """A reader that follows covering and next_start sees every archived offset once, in order."""
    index, offset, seen = FlushIndex(flushes), 0, list[int]()
    for _ in range(100):
        if (flush := index.covering(offset)) is not None:
            seen += range(offset, flush.stop)
            offset = flush.stop
        elif (start := index.next_start(offset)) is not None:
            offset = start
        else:
            break
    assert seen == sorted({at for flush in flushes for at in range(flush.start, flush.stop)})
