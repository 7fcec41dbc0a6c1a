"""What a worker remembers of one of its own readers between two turns, and when that reader must report. Pure but for itself.

Only `synchronizer` uses it, under its lock.
"""

from dataclasses import dataclass, field

from beam_unified.sync.policy import Hold
from beam_unified.sync.rates import Claims, Meter, Share, next_claim
from beam_unified.sync.reports import ALL_OF_IT, NO_LIMIT, Level, Phase, RateLimit, Report


@dataclass(slots=True, kw_only=True)
class Seat:
    """One reader of this process. Times are seconds of a monotonic clock.

    Attributes:
        meter: Its buckets.
        share: Its share of the limit.
        reported: Its newest report that was handed over to the log.
        reported_at: When.
        unread_since: When the oldest report was handed over that the log has not given back, or taken a newer one for.
        active: Whether it was free to read at any time since the newest report.
        hungry: Whether it had to wait for its rate since then, or took all that it allowed.
        allowed: Records that the newest free turn allowed.
        records: What it has read since then.
        size_bytes: What it has read since then.
        limit_position: Where it met the instant that its gate waits for.
        turn_at: Its last turn.
        hold: What that one said.
        held_since: Since when it has been held for that reason.
    """

    meter: Meter
    share: Share = field(default_factory=Share)
    reported: Report | None = None
    reported_at: float = 0.0
    unread_since: float | None = None
    active: bool = True
    hungry: bool = True  # a reader that has just come has no share yet
    allowed: int | None = None
    records: int = 0
    size_bytes: int = 0
    limit_position: int | None = None
    turn_at: float = 0.0
    hold: Hold | None = None
    held_since: float = 0.0

    def report_due(self, level: Level, phase: Phase, *, now: float, interval_s: float, half_drift: float) -> bool:
        """Whether a report must go out now: by its interval, or because others cannot wait for that.

        Others cannot wait for a beginning, an end, a gate, a watermark that went back (a restore), and half the drift: were
        the minimum news of once an interval, replay would go at one drift an interval (FLINK-37399). What half the drift says
        waits until the last report has come back, so that a slow log is not flooded.
        """
        last = self.reported
        if last is None or level < last.level:
            return True
        if last.phase is Phase.DONE:
            return phase is not Phase.DONE
        if (phase is Phase.DONE) or (phase is Phase.HELD_BY_GATE) != (last.phase is Phase.HELD_BY_GATE):
            return True
        ahead = level > last.level and level - last.level >= half_drift
        return now - self.reported_at >= interval_s or (ahead and self.unread_since is None)

    def claim(self, others: Claims, limit: RateLimit, phase: Phase, *, now: float) -> int:
        """What to claim in a report that goes out now. One that was held since the last report gives its share away."""
        if limit == NO_LIMIT or phase is Phase.DONE or not self.active:
            return 0
        seconds = max(now - self.reported_at, 0.001)
        used = max(
            self.records / (limit.records_per_s or _UNLIMITED), self.size_bytes / (limit.bytes_per_s or _UNLIMITED)
        )
        return next_claim(others, hungry=self.hungry, used=min(ALL_OF_IT, round(used / seconds * ALL_OF_IT)))

    def handed_over(self, report: Report, *, now: float) -> None:
        """A report goes out now: what was gathered for it begins anew."""
        self.reported, self.reported_at = report, now
        self.unread_since = now if self.unread_since is None else self.unread_since
        self.share = self.share.published(report.sequence, report.claim)
        self.active, self.hungry, self.records, self.size_bytes = False, False, 0, 0

    def came_back(self, report: Report, others: Claims) -> None:
        """One of its reports was read in the log."""
        newest = self.reported is not None and self.reported.sequence <= report.sequence
        self.unread_since = None if newest else self.reported_at
        self.share = self.share.came_back(report.sequence, report.claim, others)


_UNLIMITED = float("inf")
