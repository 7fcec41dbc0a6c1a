"""A replay at so many times the speed at which things happened: for load tests. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from types import UnionType

from beam_unified.errors import ConfigError
from beam_unified.positions import instant_ms

_MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class ReplaySpeed:
    """`ReadUnified(replay_speed=ReplaySpeed(10, start="2026-11-16T00:00:00Z"))`: ten hours of event time an hour.

    An hour after the pipeline was built, records up to ten hours after `start` have come out, and no later one, in every
    partition; what is out of order comes when what precedes it in its partition has come. It is a limit: who is slower is
    not made faster. The clock runs on while a job is down or is being submitted, and the job then catches up flat out.

    Args:
        factor: How many times as fast as event time; more than 0.
        start: The event time at which the replay begins; what is older comes at once.
        ramp: The speed grows from 0 to `factor` over so much time.

    Raises:
        ConfigError: a factor that is not above 0, an instant without a zone, a ramp below 0.
    """

    factor: float
    start: datetime | str
    ramp: timedelta = timedelta(0)

    def __post_init__(self) -> None:
        if not (_is(int | float, self.factor) and 0 < self.factor < float("inf")):
            raise ConfigError(f"replay_speed: factor must be a number above 0, got {self.factor!r}.")
        if not _is(timedelta, self.ramp) or self.ramp < timedelta(0):
            raise ConfigError(f"replay_speed: ramp must be a timedelta of 0 or more, got {self.ramp!r}.")
        instant_ms(self.start, "replay_speed")

    def pinned(self, now_ms: int) -> "PinnedSpeed":
        """With its clock started."""
        return PinnedSpeed(
            factor=float(self.factor),
            start_ms=instant_ms(self.start, "replay_speed"),
            began_ms=now_ms,
            ramp_ms=self.ramp // _MILLISECOND,
        )


def _is(kind: type | UnionType, value: object) -> bool:
    """isinstance, for options of users without a type checker."""
    return isinstance(value, kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedSpeed:
    """A `ReplaySpeed` whose clock runs: the same for every partition and worker."""

    factor: float
    start_ms: int
    began_ms: int
    ramp_ms: int

    def due_before(self, now_ms: int) -> int:
        """Records with event times below this may come out; microseconds. Never goes back as the clock goes on."""
        passed = max(0, now_ms - self.began_ms)
        at_full_speed = passed - self.ramp_ms / 2 if passed >= self.ramp_ms else passed**2 / (2 * self.ramp_ms)
        return round((self.start_ms + self.factor * at_full_speed) * 1_000)
