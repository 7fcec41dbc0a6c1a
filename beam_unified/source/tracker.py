"""The restriction tracker: every rule about claims and splits is in this file (R7, T4). No I/O.

Theory of operation. Progress is claimed a batch at a time: `UpTo(n)` claims every offset below n, records and holes
alike, before the batch is emitted. A restriction is finished only by the claim `End()`, which the reader makes in a
call that emitted nothing. So after the last record there is always a residual left that can be deferred, its watermark
still held; with a stock tracker `try_split(0)` after the last claim gives None, the hold is gone and the watermark jumps
over the last batch while it is in flight.

Skipped gaps are noted for the residual (A4). A late file is told of only where that is claimed, by `Noticed`: after a checkpoint
it is the residual's to tell.

    reading --UpTo--> reading --End--> finished
       `--try_split(0 or None)--> checkpointed: every further claim is refused

Splits of an ordered or live restriction: only "now". Any other fraction is refused: a live log has no middle (Prism asks
for one, and a stock offset tracker over [x, 2^63) would cut at 2^62), and an ordered one may not be read from two places.

A splittable restriction (a part of the archive, read without order) may be cut at any fraction of what is not claimed yet.
It goes on with a nearer stop, so a claim prepared before the split may reach beyond it: that is refused, nothing is
claimed, and the reader asks again for less.
"""

from dataclasses import dataclass

from apache_beam.io.iobase import RestrictionProgress, RestrictionTracker

from beam_unified import late_files
from beam_unified.late_files import Ranges
from beam_unified.offsets import OffsetRange
from beam_unified.source.restriction import LogRestriction


@dataclass(frozen=True, slots=True)
class UpTo:
    """Claims every offset below `offset` that is not claimed yet; `leader_epoch` is that of the last record in it.

    `skipped`: they are a gap, and no record of them will be given.
    """

    offset: int
    leader_epoch: int | None = None
    skipped: bool = False


@dataclass(frozen=True, slots=True)
class Noticed:
    """Claims to tell of a late file: of these skipped offsets no other will be told."""

    offsets: Ranges


@dataclass(frozen=True, slots=True)
class End:
    """Claims that there is nothing more to read."""


class LogTracker(RestrictionTracker):
    """Tracks one `LogRestriction`. Wrapped in a lock by Beam."""

    def __init__(self, restriction: LogRestriction) -> None:
        """Starts with nothing claimed."""
        self._restriction = restriction
        self._claimed = restriction.start
        self._leader_epoch = restriction.leader_epoch
        self._skipped = restriction.skipped
        self._finished = False
        self._checkpointed = False

    def current_restriction(self) -> LogRestriction:
        """What this tracker is still responsible for."""
        return self._restriction

    def try_claim(self, position: UpTo | Noticed | End) -> bool:
        """Whether the caller may emit what `position` covers; False after a checkpoint, or a split below `position`.

        Raises:
            ValueError: a claim that goes back, beyond the stop, or comes after the end. The state stays as it was.
        """
        if self._checkpointed:
            return False
        if self._finished:
            raise ValueError(f"claim of {position} after the end of {self._restriction}")
        match position:
            case End():
                if self._restriction.stop is not None and self._claimed < self._restriction.stop:
                    raise ValueError(f"claim of the end at {self._claimed}, before the stop of {self._restriction}")
                self._finished = True
            case Noticed(offsets):
                self._skipped = late_files.without(self._skipped, offsets)
            case UpTo():
                return self._claim(position)
            case _:
                raise TypeError(f"claims are UpTo(offset), Noticed(offsets) or End(), got {position!r}")
        return True

    def _claim(self, position: UpTo) -> bool:
        offset = position.offset
        if offset <= self._claimed:
            raise ValueError(f"claim up to {offset}, but offsets below {self._claimed} are claimed already")
        if self._restriction.stop is not None and offset > self._restriction.stop:
            if self._restriction.splittable:
                return False
            raise ValueError(f"claim up to {offset}, beyond the stop of {self._restriction}")
        if position.skipped:
            self._skipped = late_files.note(self._skipped, OffsetRange(self._claimed, offset))
        self._claimed, self._leader_epoch = offset, position.leader_epoch
        return True

    def try_split(self, fraction_of_remainder: float | None) -> tuple[LogRestriction, LogRestriction] | None:
        """Cuts at what is claimed, for a fraction of 0 or None (self-checkpoint), else where splittable; None when done."""
        if self._finished or self._checkpointed:
            return None
        if fraction_of_remainder:
            return self._split_at(fraction_of_remainder)
        primary, residual = self._restriction.cut(self._claimed, self._leader_epoch, self._skipped)
        self._restriction = primary
        self._checkpointed = True
        return primary, residual

    def _split_at(self, fraction: float) -> tuple[LogRestriction, LogRestriction] | None:
        """Cuts in the middle of what is left; None where that is not allowed or would leave one side empty."""
        stop = self._restriction.stop
        if stop is None or not self._restriction.splittable:
            return None
        middle = self._claimed + max(1, round((stop - self._claimed) * fraction))
        if middle >= stop:
            return None
        self._restriction, residual = self._restriction.cut(middle)
        return self._restriction, residual

    def check_done(self) -> bool:
        """Raises ValueError where the reader returned without finishing or deferring: records would be lost."""
        if not (self._finished or self._checkpointed):
            raise ValueError(f"{self._restriction}: read up to {self._claimed}, neither finished nor deferred")
        return True

    def current_progress(self) -> RestrictionProgress:
        """Estimate, in offsets."""
        end = self._restriction.known_end if self._restriction.stop is None else self._restriction.stop
        done = self._claimed - self._restriction.start
        left = 0 if self._finished else max(0, end - self._claimed)
        # The fraction is given, because the worker's own estimate of it can be NaN (a byte counter it has reset).
        fraction = done / (done + left) if done + left else float(self._finished)
        return RestrictionProgress(fraction=fraction, completed=done, remaining=left)

    def is_bounded(self) -> bool:
        """Whether the restriction ends."""
        return self._restriction.bounded
