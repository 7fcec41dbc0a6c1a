"""The restriction: what of one partition is still to be read. A value; `tracker` moves it, `coders` writes it down.

Field roles: `start` is the only cursor, the next offset. `stop` and `stop_before_ms` say where it ends: at an offset, at
the first record of an instant still to come, or (both None) never. `known_end` serves estimates only.

There is neither `__len__` nor `__bool__`: Beam drops a residual that is falsy.
"""

from dataclasses import dataclass, replace

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
    """

    start: int
    stop: int | None = None
    stop_before_ms: int | None = None
    initial_watermark: int | None = None
    known_end: int = 0

    def __post_init__(self) -> None:
        if self.stop is not None:
            OffsetRange(self.start, self.stop)
        if self.stop is not None and self.stop_before_ms is not None:
            raise ValueError("a restriction ends at an offset or at an instant, not at both")

    @property
    def bounded(self) -> bool:
        """Whether it ends."""
        return self.stop is not None or self.stop_before_ms is not None

    def ends_at(self, offset: int) -> bool:
        """Whether nothing is left to read from `offset` on."""
        return self.stop is not None and offset >= self.stop

    def cut(self, offset: int) -> tuple["LogRestriction", "LogRestriction"]:
        """The part below `offset`, and the rest, which carries the stop."""
        return replace(self, stop=offset, stop_before_ms=None), replace(self, start=offset)
