"""Late files: what a reader has skipped, and which flushes the archive got for it afterwards (A4). Pure.

A reader passes offsets without a record only where it skips a gap. It notes them, and what is noted is all that a flush can
be late for: offsets below the reader that are not noted were emitted, and a flush of those is a duplicate. A flush that
holds some of them is told of once; what it holds is struck out then.

Ranges here are sorted, not empty, and do not touch one another.
"""

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

from beam_unified.flushes import Flush, FlushIndex
from beam_unified.offsets import OffsetRange, TopicPartition

MOST_RANGES = 256
"""So many are noted exactly: they are in every restriction that a runner keeps, 16 bytes each."""

Ranges = tuple[OffsetRange, ...]


class LateFile(NamedTuple):
    """A flush that landed in the archive when a reader had skipped some of its offsets already.

    Attributes:
        topic: Name of the topic.
        partition: Number of the partition.
        start: First offset that the flush covers.
        stop: Offset after the last one that it covers.
        skipped: What of it the reader has skipped and told of no earlier late file for, as (start, stop) pairs. Read these
            again, with `Start.offsets` and `Stop.offsets`.
        noticed_ms: When the reader found it, milliseconds since the epoch.
        path: Where its commit is, as a URL.
    """

    topic: str
    partition: int
    start: int
    stop: int
    skipped: tuple[tuple[int, int], ...]
    noticed_ms: int
    path: str

    def __str__(self) -> str:
        lost = ", ".join(f"[{start}, {stop})" for start, stop in self.skipped)
        return (
            f"{self.topic}[{self.partition}]: {self.path} landed after its offsets {lost} were skipped. Read them again, with "
            "Start.offsets and Stop.offsets."
        )


def note(skipped: Ranges, offsets: OffsetRange) -> Ranges:
    """Notes a gap that is skipped. It lies above all that is noted.

    With more than `MOST_RANGES` of them the two with the fewest offsets in between count as one: a flush of what lies there may
    then be called late though it was emitted, and none that is late is missed.
    """
    noted = [*skipped, offsets]
    if len(noted) > 1 and noted[-2].stop == offsets.start:
        return _merged(noted, len(noted) - 2)
    if len(noted) <= MOST_RANGES:
        return tuple(noted)
    between = [after.start - before.stop for before, after in pairwise(noted)]
    return _merged(noted, between.index(min(between)))


def _merged(ranges: list[OffsetRange], at: int) -> Ranges:
    """With the one at `at` and the next in one."""
    return (*ranges[:at], OffsetRange(ranges[at].start, ranges[at + 1].stop), *ranges[at + 2 :])


def within(skipped: Ranges, start: int, stop: int) -> Ranges:
    """What of it lies in `[start, stop)`."""
    cut = ((max(one.start, start), min(one.stop, stop)) for one in skipped)
    return tuple(OffsetRange(first, last) for first, last in cut if first < last)


def without(skipped: Ranges, gone: Iterable[OffsetRange]) -> Ranges:
    """What is left of it."""
    for one in gone:
        first, last = (skipped[0].start, skipped[-1].stop) if skipped else (0, 0)
        skipped = within(skipped, first, min(last, one.start)) + within(skipped, max(first, one.stop), last)
    return skipped


def landed(index: FlushIndex, skipped: Ranges) -> Iterator[tuple[Flush, Ranges]]:
    """The flushes that hold skipped offsets, by start, each with those that no flush before it holds."""
    around = sorted(
        {flush for one in skipped for flush in index.overlapping(one)}, key=lambda one: (one.start, one.stop)
    )
    for flush in around:
        if held := within(skipped, flush.start, flush.stop):
            yield flush, held
            skipped = without(skipped, held)


def late_file(tp: TopicPartition, flush: Flush, held: Ranges, *, noticed_ms: int, path: str) -> LateFile:
    """As a value that travels."""
    pairs = tuple((one.start, one.stop) for one in held)
    return LateFile(tp.topic, tp.partition, flush.start, flush.stop, pairs, noticed_ms, path)
