"""One limit over many workers (rule S4), by claims in the log and a token bucket each. Pure.

Every report carries the share of its topic's limit that its member claims. Two rules make the sum safe, whatever anyone knows:

1. A member that lowers its claim uses no more than the new one from the moment when it says so.
2. A claim is granted when its report comes back, as far as the claims of the others before it in the log leave room.

So what is used is never more than what is claimed in the log, and nobody is granted what another one claims: shares sink
before others rise. Nobody has to know what was granted to others, hence a log that keeps only the newest report of a member
(a compacted topic) is enough.

What to claim is a matter of fairness alone. A member that had to wait for its rate is hungry: the hungry share equally
what the others leave. A member that had not claims a little more than it used.
"""

from dataclasses import dataclass, replace

from beam_unified.sync.reports import ALL_OF_IT, Phase, RateLimit, Report

_BURST_S = 0.5  # of its rate a bucket holds: 5 % of what ten seconds allow


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """Sums over the members of a topic.

    Attributes:
        total: Of all claims.
        hungry_total: Of the claims of hungry members.
        claiming: Members with a claim.
        hungry: Hungry members.
        unheard: Expected members that have not reported yet; taken to become hungry.
    """

    total: int = 0
    hungry_total: int = 0
    claiming: int = 0
    hungry: int = 0
    unheard: int = 0

    def with_(self, report: Report) -> "Claims":
        """With one more member."""
        return self._plus(report, 1)

    def without(self, report: Report) -> "Claims":
        """With one member less."""
        return self._plus(report, -1)

    def _plus(self, report: Report, sign: int) -> "Claims":
        hungry = report.phase is Phase.HELD_BY_RATE
        return replace(
            self,
            total=self.total + sign * report.claim,
            hungry_total=self.hungry_total + sign * report.claim * hungry,
            claiming=self.claiming + sign * (report.claim > 0),
            hungry=self.hungry + sign * hungry,
        )


NO_CLAIMS = Claims()


def next_claim(others: Claims, *, hungry: bool, used: int) -> int:
    """What an active member should claim now. At least 1.

    Args:
        others: The claims of the others.
        hungry: It had to wait for its rate since its last report.
        used: What it has used since then, in billionths of the limit.
    """
    fair = ALL_OF_IT // (others.claiming + others.unheard + 1)
    left = (ALL_OF_IT - others.total + others.hungry_total) // (others.hungry + others.unheard + 1)
    most = max(1, fair, left)
    return most if hungry else min(most, max(used * 5 // 4, fair // 32, 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What one member may use of its topic's limit. Moves by the two rules above.

    Attributes:
        granted: By the report that came back last.
        outstanding: (sequence, claim, what it could use when it was published) of each report that has not come back.
    """

    granted: int = 0
    outstanding: tuple[tuple[int, int, int], ...] = ()

    @property
    def usable(self) -> int:
        """Billionths of the limit."""
        return min([self.granted, *(claim for _, claim, _ in self.outstanding)])

    def published(self, sequence: int, claim: int) -> "Share":
        """A report with this claim is handed over to the log now."""
        return replace(self, outstanding=(*self.outstanding, (sequence, claim, min(self.usable, claim))))

    def came_back(self, sequence: int, claim: int, others: Claims) -> "Share":
        """The own report was read in the log, with these claims of others at its place.

        What was usable all the time stays so; what is more must fit in beside the others.
        """
        kept = next((usable for number, _, usable in self.outstanding if number == sequence), 0)
        granted = max(kept, min(claim, ALL_OF_IT - others.total))
        return Share(granted=granted, outstanding=tuple(one for one in self.outstanding if one[0] > sequence))

    def taken_over(self) -> "Share":
        """Another process has reported for the member: what was granted is that one's now."""
        return Share(outstanding=tuple((sequence, claim, 0) for sequence, claim, _ in self.outstanding))


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """Tokens, of records or bytes. Begins empty. Time is seconds of a monotonic clock.

    Attributes:
        tokens: Below 0 where a batch was larger than could be known beforehand.
        at: When that was so.
    """

    tokens: float = 0.0
    at: float

    def refilled(self, rate: float | None, now: float) -> "Bucket":
        """At `now`, having been filled with `rate` tokens a second. Holds half a second of it, and room for one token.

        None is without limit: empty, and without debts, for the limit that may be set one day.
        """
        if rate is None:
            return Bucket(at=now)
        return Bucket(tokens=min(_most(rate), self.tokens + rate * max(0.0, now - self.at)), at=now)

    def full(self, rate: float) -> bool:
        """Whether waiting brings no more."""
        return self.tokens >= _most(rate)

    def spent(self, tokens: float) -> "Bucket":
        """With so many taken out."""
        return replace(self, tokens=self.tokens - tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    """What one member may read of its topic: a bucket of records and one of bytes, fed with its share of the limit.

    Attributes:
        records: Bucket of records.
        size: Bucket of bytes.
        record_bytes: Size of its records, about; 0 before the first batch.
    """

    records: Bucket
    size: Bucket
    record_bytes: float = 0.0

    @classmethod
    def empty(cls, *, now: float) -> "Meter":
        """Of a member that has just come: who has been killed again and again must not get a full bucket each time."""
        return cls(records=Bucket(at=now), size=Bucket(at=now))

    def refilled(self, limit: RateLimit, share: int, now: float) -> "Meter":
        """At `now`, having had this share of the limit."""
        part = share / ALL_OF_IT
        records = None if limit.records_per_s is None else limit.records_per_s * part
        size = None if limit.bytes_per_s is None else limit.bytes_per_s * part
        return replace(self, records=self.records.refilled(records, now), size=self.size.refilled(size, now))

    def allows(self, limit: RateLimit, share: int) -> int | None:
        """How many records may be read now; None is without limit. Bytes become records by the size of past ones."""
        found = []
        if limit.records_per_s is not None:
            found.append(int(self.records.tokens))
        if limit.bytes_per_s is not None:
            fitting = int(self.size.tokens / self.record_bytes) if self.record_bytes > 0 else 0
            # One that is larger than the bucket, or of unknown size, goes when the bucket is full; the debt is waited for.
            found.append(fitting or int(self.size.full(limit.bytes_per_s * share / ALL_OF_IT)))
        return max(0, min(found)) if found else None

    def spent(self, records: int, size_bytes: int) -> "Meter":
        """With a batch read."""
        if not records:
            return replace(self, size=self.size.spent(size_bytes))
        known, newest = self.record_bytes, size_bytes / records
        return Meter(
            records=self.records.spent(records),
            size=self.size.spent(size_bytes),
            record_bytes=(3 * known + newest) / 4 if known else newest,
        )


def _most(rate: float) -> float:
    return max(1.0, rate * _BURST_S)
