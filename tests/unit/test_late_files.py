"""What was skipped, as ranges, against plain sets of offsets; and `find_late_files`."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_unified import DeadLetter, LateFile, find_late_files, late_files
from beam_unified.flushes import FlushIndex
from beam_unified.late_files import MOST_RANGES, Ranges
from beam_unified.offsets import OffsetRange
from beam_unified.testing import InMemoryLog, InMemoryTopics, ManualClock
from tests.strategies import flush_lists

pytestmark = pytest.mark.rule("A4")


def offsets(ranges):
    return [offset for one in ranges for offset in range(one.start, one.stop)]


@st.composite
def gaps(draw, highest=40):
    """Gaps as a reader meets them: upwards, sometimes one right behind the other."""
    edges = sorted(draw(st.lists(st.integers(0, highest), max_size=16)))
    return [OffsetRange(*pair) for pair in zip(edges[::2], edges[1::2], strict=False) if pair[0] < pair[1]]


def noted(found):
    skipped: Ranges = ()
    for gap in found:
        skipped = late_files.note(skipped, gap)
    return skipped


def is_tidy(ranges):
    return all(one.start < one.stop for one in ranges) and all(one.stop < two.start for one, two in pairwise(ranges))


@given(gaps(), gaps(), st.integers(0, 45), st.integers(0, 45))
def test_ranges_behave_as_sets_of_offsets(found, gone, one, other):
    """Noted, cut, struck out: in order, each offset once, no two ranges that touch."""
    skipped, (start, stop) = noted(found), sorted((one, other))
    assert is_tidy(skipped)
    assert offsets(skipped) == offsets(found)
    assert offsets(late_files.within(skipped, start, stop)) == [o for o in offsets(found) if start <= o < stop]
    left = late_files.without(skipped, gone)
    assert is_tidy(left)
    assert offsets(left) == [o for o in offsets(found) if o not in set(offsets(gone))]


@given(gaps(), flush_lists())
def test_each_skipped_offset_that_landed_is_told_of_once(found, flushes):
    """With a flush that holds it; what was emitted never, and a flush of that alone is not told of at all."""
    skipped = noted(found)
    told = list(late_files.landed(FlushIndex(flushes), skipped))
    for flush, held in told:
        assert held
        assert all(flush.start <= offset < flush.stop for offset in offsets(held))
    covered = {offset for flush in flushes for offset in range(flush.start, flush.stop)}
    assert sorted(offset for _, held in told for offset in offsets(held)) == [
        offset for offset in offsets(skipped) if offset in covered
    ]


def test_there_is_an_end_to_what_is_noted():
    """It is in every restriction. The nearest two become one, so that nothing that was skipped is forgotten."""
    skipped = noted(OffsetRange(start, start + 1) for start in range(0, 10 * MOST_RANGES, 10))
    assert len(skipped) == MOST_RANGES
    more = late_files.note(skipped, OffsetRange(10 * MOST_RANGES - 5, 10 * MOST_RANGES))
    assert len(more) == MOST_RANGES
    assert more[-1] == OffsetRange(10 * MOST_RANGES - 10, 10 * MOST_RANGES)
    assert set(offsets(skipped)) < set(offsets(more))


# -- afterwards


def letter(topic, partition, start, stop, reason="gap"):
    return DeadLetter(topic, partition, start, stop, reason, "", None)


def test_afterwards_the_archive_is_asked_for_the_gaps():
    """What has landed by now, for each gap once, however often its letter was written; other letters do not matter."""
    pins, views = InMemoryLog("pins", partitions=2), InMemoryLog("views")
    for log, partition in ((pins, 0), (pins, 1), (views, 0)):
        for offset in range(30):
            log.append(partition, b"%d" % offset, timestamp=offset)
    pins.flush(0, 0, 10)
    pins.flush(0, 12, 18)
    views.flush(0, 25, 30)
    letters = [
        letter("views", 0, 20, 30),
        letter("pins", 0, 10, 15),
        letter("pins", 0, 10, 20),
        letter("pins", 0, 5, 6, "decoding"),
        letter("pins", 1, 0, 30),
    ]
    archive = InMemoryTopics(pins, views).archive
    assert find_late_files(archive, letters, clock=ManualClock(7)) == (
        LateFile("pins", 0, 12, 18, ((12, 18),), 7, "memory:pins/0/12-18"),
        LateFile("views", 0, 25, 30, ((25, 30),), 7, "memory:views/0/25-30"),
    )
