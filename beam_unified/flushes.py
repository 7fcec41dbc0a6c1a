"""What the archive holds of one partition: its committed flushes, as plain values. No input or output here.

A flush is the unit in which records reach the archive: all records of one partition with `start <= offset < stop`,
however many files they are in. It covers the whole range, holes included, so that neighbouring flushes touch.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from beam_unified.offsets import OffsetRange


@dataclass(frozen=True, slots=True, order=True)
class Flush:
    """A committed flush.

    Attributes:
        start: First offset covered.
        stop: Offset after the last one covered. Always above `start`.
        min_timestamp: No Kafka timestamp in it is smaller, milliseconds; None where no record of it has one. In our own layout
            that of a record.
        max_timestamp: Nor larger.
    """

    start: int
    stop: int
    min_timestamp: int | None
    max_timestamp: int | None

    def __post_init__(self) -> None:
        OffsetRange(self.start, self.stop)
        if self.start == self.stop:
            raise ValueError(f"a flush covers at least one offset, got [{self.start}, {self.stop})")
        if (self.min_timestamp is None) != (self.max_timestamp is None):
            raise ValueError("min_timestamp and max_timestamp are given together or not at all")


class FlushIndex:
    """The committed flushes of one partition, searchable by offset and by time. Immutable.

    Flushes may overlap (a retry with other boundaries): a lookup answers with the one that reaches furthest.
    """

    __slots__ = ("_flushes", "_furthest", "_starts")

    def __init__(self, flushes: Iterable[Flush] = ()) -> None:
        """Sorts the flushes; their order does not matter."""
        self._flushes = tuple(sorted(flushes, key=lambda flush: (flush.start, flush.stop)))
        self._starts = [flush.start for flush in self._flushes]
        self._furthest: list[Flush] = []
        for flush in self._flushes:
            best = self._furthest[-1] if self._furthest else flush
            self._furthest.append(flush if flush.stop >= best.stop else best)

    def __iter__(self) -> Iterator[Flush]:
        """The flushes by start."""
        return iter(self._flushes)

    def __len__(self) -> int:
        return len(self._flushes)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FlushIndex) and self._flushes == other._flushes

    def __hash__(self) -> int:
        return hash(self._flushes)

    def __repr__(self) -> str:
        return f"FlushIndex({list(self._flushes)!r})"

    @property
    def start(self) -> int | None:
        """First offset in the archive; None where it is empty."""
        return self._starts[0] if self._starts else None

    @property
    def stop(self) -> int | None:
        """Offset after the last one in the archive; None where it is empty. There may be gaps below it."""
        return self._furthest[-1].stop if self._furthest else None

    def covering(self, offset: int) -> Flush | None:
        """The flush that covers `offset` and reaches furthest; None where no flush covers it."""
        at = bisect_right(self._starts, offset)
        if at == 0:
            return None
        flush = self._furthest[at - 1]
        return flush if flush.stop > offset else None

    def next_start(self, offset: int) -> int | None:
        """The smallest flush start above `offset`: where the archive goes on after a gap."""
        at = bisect_right(self._starts, offset)
        return self._starts[at] if at < len(self._starts) else None

    def overlapping(self, offsets: OffsetRange) -> Iterator[Flush]:
        """Every flush that covers some of these offsets, by start."""
        first = bisect_right(self._furthest, offsets.start, key=lambda flush: flush.stop)
        last = bisect_left(self._starts, offsets.stop)
        return (flush for flush in self._flushes[first:last] if flush.stop > offsets.start)

    def reaching(self, timestamp_ms: int) -> Iterator[Flush]:
        """The flushes, by offset, that may hold a record with a timestamp >= `timestamp_ms`; in our own layout each does."""
        for flush in self._flushes:
            if flush.max_timestamp is not None and flush.max_timestamp >= timestamp_ms:
                yield flush
