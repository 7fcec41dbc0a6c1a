"""The allreduce: what a worker makes of the reports of all members (rule S1). Touches nothing, knows no clock.

A `GroupView` is a function of the log of the run: whoever has read the same entries has the same view. Time in it is the
log's own, so that while the log cannot be reached no time passes and nobody goes silent. One report costs O(log n), the
minima O(topics).
"""

import heapq
from collections import OrderedDict
from collections.abc import Iterable, Iterator

from beam_unified.clock import iso
from beam_unified.offsets import TopicPartition
from beam_unified.sync.rates import NO_CLAIMS, Claims
from beam_unified.sync.reports import PAST_ALL, UNKNOWN, Entry, Level, LimitChange, Logged, Phase, RateLimit, Report


class GroupView:
    """The newest report of every expected member, and what follows from all of them.

    Args:
        topics: The topics of the group. Expected are the partitions that the reports of a topic speak of; a topic that
            nobody has reported of is expected to have at least one.
        stale_after_ms: How long, by the log's time, a member says nothing before it counts as silent. One that is done is not.
        ignore_silent: Whether silent members are left out of the minimum. Gates wait for them anyway.
    """

    def __init__(self, topics: Iterable[str], *, stale_after_ms: int, ignore_silent: bool) -> None:
        self._topics = {topic: _Topic() for topic in topics}
        self._limits: dict[str, RateLimit] = {}
        self._stale_after_ms = stale_after_ms
        self._ignore_silent = ignore_silent
        self._heard_at: OrderedDict[TopicPartition, int] = (
            OrderedDict()
        )  # of those that are not silent; longest ago first
        self._silent: set[TopicPartition] = set()
        self._first_ms: int | None = None
        self._now_ms = 0

    def observe(self, logged: Logged) -> bool:
        """Takes the next entry of the log. False for one that does not count: delivered twice, or of a foreign topic."""
        self._first_ms = logged.at_ms if self._first_ms is None else self._first_ms
        self._now_ms = max(self._now_ms, logged.at_ms)
        counts = self._take(logged.entry)
        self._find_silent()
        return counts

    # -- what follows

    def minimum(self) -> Level:
        """The slowest member, without those that a gate holds (S2). UNKNOWN while an expected one has not reported."""
        return min(
            topic.counted.smallest() if topic.complete or self._silence_ignored(topic) else UNKNOWN
            for topic in self._topics.values()
        )

    def topic_minimum(self, topic: str) -> Level:
        """The slowest expected member of a topic, held or silent or neither; what gates ask."""
        found = self._topics[topic]
        return found.everyone.smallest() if found.complete else UNKNOWN

    def maximum(self) -> Level:
        """The fastest member that is not done; UNKNOWN where no watermark is known."""
        return -min(topic.fastest.smallest() for topic in self._topics.values())

    def report_of(self, member: TopicPartition) -> Report | None:
        """Its newest report."""
        topic = self._topics.get(member.topic)
        return None if topic is None else topic.reports.get(member.partition)

    def changed_limit(self, topic: str) -> RateLimit | None:
        """The limit that was set while the job runs; None where it was not."""
        return self._limits.get(topic)

    def silent(self) -> frozenset[TopicPartition]:
        """Members that have gone silent, or have never spoken although others have for long enough."""
        return frozenset(self._silent).union(self._missing() if self._long_running else ())

    def awaited(self, topics: Iterable[str] | None = None) -> str:
        """Whom one waits for who waits for these topics, or for the group, for people. Looks at every member."""
        named = self._topics if topics is None else {name: self._topics[name] for name in topics}
        for name, topic in named.items():
            if not topic.complete:
                number = next((n for n in range(topic.expected) if n not in topic.reports), 0)
                return f"the first report of {TopicPartition(name, number)}"
        reports = [report for topic in named.values() for report in topic.reports.values()]
        slowest = min(reports, key=lambda report: (topics is None and report.phase is Phase.HELD_BY_GATE, report.level))
        at = "the minimum" if slowest.watermark is None else iso(slowest.watermark // 1_000)
        return f"{slowest.member}, {slowest.phase.value}, at {at}, offset {slowest.position}"

    # -- claims of a topic's rate, for `rates`

    def claims_of_others(self, member: TopicPartition, partitions: int) -> Claims:
        """What the other members of its topic claim, which has at least so many partitions."""
        topic = self._topics[member.topic]
        expected = max(topic.expected, partitions)
        own = topic.reports.get(member.partition)
        others = topic.claims if own is None else topic.claims.without(own)
        return Claims(
            total=others.total,
            hungry_total=others.hungry_total,
            claiming=others.claiming,
            hungry=others.hungry,
            unheard=max(0, expected - len(topic.reports) - (own is None)),
        )

    # -- how it is kept

    def _take(self, entry: Entry) -> bool:
        if isinstance(entry, LimitChange):
            self._limits[entry.topic] = entry.limit
            return entry.topic in self._topics
        topic, last = self._topics.get(entry.member.topic), self.report_of(entry.member)
        if topic is None or (last is not None and last.author == entry.author and last.sequence >= entry.sequence):
            return False
        topic.put(entry)
        self._silent.discard(entry.member)
        self._heard_at.pop(entry.member, None)
        if entry.phase is not Phase.DONE:
            self._heard_at[entry.member] = self._now_ms
        return True

    def _find_silent(self) -> None:
        while self._heard_at:
            member, heard_at = next(iter(self._heard_at.items()))
            if self._now_ms - heard_at <= self._stale_after_ms:
                return
            del self._heard_at[member]
            self._silent.add(member)
            if self._ignore_silent:
                self._topics[member.topic].counted.remove(member.partition)

    @property
    def _long_running(self) -> bool:
        return self._first_ms is not None and self._now_ms - self._first_ms > self._stale_after_ms

    def _silence_ignored(self, topic: "_Topic") -> bool:
        return self._ignore_silent and self._long_running

    def _missing(self) -> Iterator[TopicPartition]:
        for name, topic in self._topics.items():
            if not topic.complete:
                missing = (number for number in range(topic.expected) if number not in topic.reports)
                yield from (TopicPartition(name, number) for number in missing)


class _Topic:
    """The reports of one topic."""

    __slots__ = ("claims", "counted", "everyone", "expected", "fastest", "reports")

    def __init__(self) -> None:
        self.reports: dict[int, Report] = {}
        self.expected = 0
        self.claims = NO_CLAIMS
        self.everyone = Smallest()
        self.counted = Smallest()  # without those that a gate holds, or that are ignored
        self.fastest = Smallest()  # of negated levels

    @property
    def complete(self) -> bool:
        """Whether everyone who is expected has reported."""
        return 0 < self.expected <= len(self.reports)

    def put(self, report: Report) -> None:
        partition, level = report.member.partition, report.level
        last = self.reports.get(partition)
        self.claims = (self.claims if last is None else self.claims.without(last)).with_(report)
        self.reports[partition] = report
        # Partitions are never taken away (KIP-195): a smaller number is older metadata.
        self.expected = max(self.expected, report.partitions, partition + 1)
        self.everyone.put(partition, level)
        if report.phase is Phase.HELD_BY_GATE:
            self.counted.remove(partition)
        else:
            self.counted.put(partition, level)
        if report.phase is Phase.DONE:
            self.fastest.remove(partition)
        else:
            self.fastest.put(partition, -level)


class Smallest:
    """The smallest of values that change: a heap whose outdated entries are dropped when they come up, or are too many."""

    __slots__ = ("_heap", "_values")

    def __init__(self) -> None:
        self._values: dict[int, Level] = {}
        self._heap: list[tuple[Level, int]] = []

    def put(self, key: int, value: Level) -> None:
        """Sets the value of a key."""
        if self._values.get(key) != value:
            self._values[key] = value
            heapq.heappush(self._heap, (value, key))
            if len(self._heap) > 2 * len(self._values) + 64:
                self._heap = [(kept, owner) for owner, kept in self._values.items()]
                heapq.heapify(self._heap)

    def remove(self, key: int) -> None:
        """Forgets a key; no matter if it is not there."""
        self._values.pop(key, None)

    def smallest(self) -> Level:
        """The smallest value; PAST_ALL where there is none."""
        heap = self._heap
        while heap and self._values.get(heap[0][1]) != heap[0][0]:
            heapq.heappop(heap)
        return heap[0][0] if heap else PAST_ALL
