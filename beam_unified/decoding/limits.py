"""When too much is bad: limits on dead letters, and the count of one reader against them.

Counted are records in the order in which they are read, not offsets: those have holes. What a reader gets again, because
a bundle failed behind it, is not counted again.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from beam_unified.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterLimit:
    """What may be bad of one partition before the pipeline fails, because more is wrong than some records.

    Each reader counts for itself, and anew when the job is restarted: a runner that restarts for ever gets on by so many
    records each time. Bound its restarts.

    Args:
        consecutive: So many bad records one after the other are too many; None is no limit.
        ratio: A larger part than this of any `window` records, counted off one after the other, is too much; None is no limit.
        window: Number of records over which the ratio is taken. It fails as soon as the ratio cannot be kept any more.

    Raises:
        ConfigError: no limit at all, or one that nothing or everything exceeds.
    """

    consecutive: int | None = None
    ratio: float | None = None
    window: int = 1_000

    def __post_init__(self) -> None:
        if self.consecutive is None and self.ratio is None:
            raise ConfigError("DeadLetterLimit limits nothing: give consecutive=100 or ratio=0.1.")
        if self.consecutive is not None and self.consecutive < 1:
            raise ConfigError(f"DeadLetterLimit consecutive must be at least 1, got {self.consecutive!r}.")
        if self.ratio is not None and not 0 <= self.ratio < 1:
            raise ConfigError(f"DeadLetterLimit ratio must be at least 0 and below 1, got {self.ratio!r}.")
        if self.window < 1:
            raise ConfigError(f"DeadLetterLimit window must be at least 1, got {self.window!r}.")


class Tally:
    """What one reader has seen. Mutable; lives as long as the reader."""

    __slots__ = ("_bad", "_limit", "_next_offset", "_run", "_seen")

    def __init__(self, limit: DeadLetterLimit) -> None:
        self._limit = limit
        self._next_offset = self._run = self._seen = self._bad = 0

    def take(self, offsets: Sequence[int], bad: Collection[int]) -> str | None:
        """Counts records, by offset, of which some are bad. Gives what limit they exceed, in words."""
        for offset in offsets:
            if offset < self._next_offset:
                continue
            self._next_offset = offset + 1
            if (exceeded := self._take(is_bad=offset in bad)) is not None:
                return exceeded
        return None

    def _take(self, *, is_bad: bool) -> str | None:
        limit = self._limit
        self._run = self._run + 1 if is_bad else 0
        self._seen, self._bad = self._seen + 1, self._bad + is_bad
        if limit.consecutive is not None and self._run >= limit.consecutive:
            return f"{self._run} records one after the other are bad"
        if limit.ratio is not None and self._bad > limit.ratio * limit.window:
            return (
                f"{self._bad} of {self._seen} records are bad, and at most {limit.ratio:.0%} of {limit.window} may be"
            )
        if self._seen == limit.window:
            self._seen = self._bad = 0
        return None
