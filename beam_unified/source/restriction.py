"""The restriction: what of one partition is still to be read. A value; `tracker` moves it, `coders` writes it down.

Field roles: `start` is the only cursor, the next offset. `stop` and `stop_before_ms` say where it ends: at an offset, at
the first record of an instant still to come, or (both None) never. `known_end` serves estimates only. `topic_id` and
`leader_epoch` say which log the offsets are of, since Kafka may replace it under our feet. `skipped` is what lies behind and
was not given: what late files are looked for (A4).

There is neither `__len__` nor `__bool__`: Beam drops a residual that is falsy.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise

from beam_unified.late_files import Ranges
from beam_unified.offsets import OffsetRange


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRestriction:
    """Offsets `start <= offset < stop` of one partition.

    Attributes:
        start: Next offset to read.
        stop: Offset to stop before; None reads on.
        stop_before_ms: Stop before the first record whose Kafka timestamp is >= this; None where `stop` says it all.
        initial_watermark: Microseconds since the epoch; None is the minimum.
        known_end: End offset of the log when the restriction was made.
        topic_id: Of the topic that is read, where the brokers tell; another topic of the name is an error.
        leader_epoch: Of the last record below `start`, where it came from Kafka: shows a truncation on resuming.
        skipped: Gaps below `start` that were skipped, and for which no late file was told of (see `late_files`).
        splittable: Whether a runner may cut it anywhere: a part of the archive that is read without order (R7).
    """

    start: int
    stop: int | None = None
    stop_before_ms: int | None = None
    initial_watermark: int | None = None
    known_end: int = 0
    topic_id: str | None = None
    leader_epoch: int | None = None
    skipped: Ranges = ()
    splittable: bool = False

    def __post_init__(self) -> None:
        if self.stop is not None:
            OffsetRange(self.start, self.stop)
        if self.stop is not None and self.stop_before_ms is not None:
            raise ValueError("a restriction ends at an offset or at an instant, not at both")
        if self.splittable and self.stop is None:
            raise ValueError("what has no stop has no middle: only a range of offsets is splittable")
        edges = [edge for one in self.skipped for edge in (one.start, one.stop)]
        if not all(before < after for before, after in pairwise(edges)) or (edges and edges[-1] > self.start):
            raise ValueError(f"what was skipped is in order, not empty, and below {self.start}: got {edges}")

    @property
    def bounded(self) -> bool:
        """Whether it ends."""
        return self.stop is not None or self.stop_before_ms is not None

    def ends_at(self, offset: int) -> bool:
        """Whether nothing is left to read from `offset` on."""
        return self.stop is not None and offset >= self.stop

    def cut(
        self, offset: int, leader_epoch: int | None = None, skipped: Ranges = ()
    ) -> tuple["LogRestriction", "LogRestriction"]:
        """The part below `offset`, and the rest, which carries the stop.

        Args:
            offset: Where.
            leader_epoch: For the rest: of the last record below.
            skipped: For the rest: what lies below that it is to look for.
        """
        rest = replace(self, start=offset, leader_epoch=leader_epoch, skipped=skipped)
        return replace(self, stop=offset, stop_before_ms=None), rest

    def pieces(self, boundaries: Iterable[int]) -> tuple["LogRestriction", ...]:
        """Cut for a parallel read: a splittable piece up to each boundary within, and what is left, as unsplittable as it was.

        Args:
            boundaries: Offsets, in ascending order; those outside of the restriction do not matter.
        """
        rest, found = self, list[LogRestriction]()
        for boundary in boundaries:
            if boundary > rest.start and (rest.stop is None or boundary <= rest.stop):
                piece, rest = rest.cut(boundary)
                found.append(replace(piece, splittable=True, known_end=boundary))
        return tuple(found) if rest.ends_at(rest.start) and found else (*found, rest)
