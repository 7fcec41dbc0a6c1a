"""What the members of a sync group have said, read from the group's topic by somebody who is no member. Writes nothing."""

from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass

from beam_unified.errors import ConfigError
from beam_unified.offsets import TopicPartition
from beam_unified.records import Record
from beam_unified.stores import KafkaLog, OutOfRange
from beam_unified.sync import wire
from beam_unified.sync.coordinator import subject
from beam_unified.sync.reduction import GroupView
from beam_unified.sync.reports import Logged, Phase, RateLimit, Report

_RATE_MS = 10_000  # of log time, over which a rate is taken
_FETCH_RECORDS = 10_000
_STALE_MS = 30_000
_HELD = {Phase.HELD_BY_GATE: "gate", Phase.HELD_BY_DRIFT: "drift", Phase.HELD_BY_RATE: "rate"}


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberState:
    """A member, as its newest report says.

    Attributes:
        report: That report.
        at_ms: When the log took it, milliseconds since the epoch.
        silent_ms: How much later the newest report of anybody in the run is.
        offsets_per_s: Over the last ten seconds of its reports; None from a single one.
        held_by: "gate", "drift" or "rate"; None where it reads.
        waits_for: Whom it waits for, in words, where the log tells: gates are known to the pipeline only.
        limit: The topic's rate limit, where it was changed while the job runs.
    """

    report: Report
    at_ms: int
    silent_ms: int
    offsets_per_s: float | None
    held_by: str | None
    waits_for: str | None
    limit: RateLimit | None


class SyncLog:
    """The log of a group; not thread safe, does not own the connection."""

    def __init__(self, kafka: KafkaLog, topic: str, group: str) -> None:
        """Raises UnknownTopicError: the group has never run, or its topic has another name."""
        kafka.partitions(topic)
        self._kafka, self._group, self._tp = kafka, group, TopicPartition(topic, 0)
        self._offset = kafka.bounds(self._tp).start
        # Of each run the newest entry about each subject, in the order of the log: all that a view depends on.
        self._entries: dict[str, dict[object, Logged]] = defaultdict(dict)
        self._positions: dict[tuple[str, TopicPartition], deque[tuple[int, int]]] = defaultdict(deque)

    def read(self, timeout_ms: int = 0) -> bool:
        """One fetch; waits at most about so long where there is nothing new. Whether the log went on."""
        fetched = self._kafka.fetch(self._tp, self._offset, max_records=_FETCH_RECORDS, timeout_ms=timeout_ms)
        if isinstance(fetched, OutOfRange):
            self._offset = fetched.held.start
            return True
        for record in () if fetched.batch is None else fetched.batch.records():
            self._take(record)
        before, self._offset = self._offset, fetched.next_offset
        return self._offset > before

    def read_to_end(self) -> None:
        """Everything that is there now."""
        end = self._kafka.bounds(self._tp).stop
        while self._offset < end:
            self.read(timeout_ms=500)

    def runs(self) -> dict[str, int]:
        """Run -> when it last said anything, milliseconds; the newest last."""
        newest = {run: next(reversed(entries.values())).at_ms for run, entries in self._entries.items()}
        return dict(sorted(newest.items(), key=lambda pair: pair[1]))

    def run(self, run_id: str | None) -> str:
        """The run that is meant: the newest for None. Raises ConfigError where there is none such."""
        runs = list(self.runs())
        if not runs:
            raise ConfigError(f"no run of sync group {self._group!r} has said anything in topic {self._tp.topic!r}.")
        if run_id is not None and run_id not in runs:
            raise ConfigError(f"sync group {self._group!r} has no run {run_id!r}; it has {', '.join(runs)}.")
        return runs[-1] if run_id is None else run_id

    def members(self, run_id: str) -> Sequence[MemberState]:
        """By topic and partition."""
        entries = list(self._entries[run_id].values())
        reports = {one.entry.member: one for one in entries if isinstance(one.entry, Report)}
        view = GroupView({tp.topic for tp in reports}, stale_after_ms=_STALE_MS, ignore_silent=False)
        for entry in entries:
            view.observe(entry)
        now_ms = max((one.at_ms for one in entries), default=0)
        found = []
        for tp, logged in sorted(reports.items()):
            report = view.report_of(tp)
            assert report is not None
            found.append(
                MemberState(
                    report=report,
                    at_ms=logged.at_ms,
                    silent_ms=now_ms - logged.at_ms,
                    offsets_per_s=self._rate(run_id, tp),
                    held_by=_HELD.get(report.phase),
                    waits_for=view.awaited() if report.phase is Phase.HELD_BY_DRIFT else None,
                    limit=view.changed_limit(tp.topic),
                )
            )
        return found

    def _take(self, record: Record) -> None:
        run = None if record.key is None else wire.run_of(record.key)
        if record.key is None or record.value is None or run is None or run[0] != self._group:
            return
        try:
            entry = wire.decode(record.key, record.value)
        except ValueError:
            return  # its members have said so in their logs
        if entry is None:
            return
        run_id, logged = run[1], Logged(entry, record.timestamp or 0)
        self._entries[run_id].pop(subject(entry), None)  # so that it goes to the end
        self._entries[run_id][subject(entry)] = logged
        if isinstance(entry, Report):
            positions = self._positions[run_id, entry.member]
            positions.append((logged.at_ms, entry.position))
            while len(positions) > 2 and logged.at_ms - positions[0][0] > _RATE_MS:
                positions.popleft()

    def _rate(self, run_id: str, tp: TopicPartition) -> float | None:
        positions = self._positions[run_id, tp]
        if len(positions) < 2 or positions[-1][0] == positions[0][0]:
            return None
        (first_ms, first), (last_ms, last) = positions[0], positions[-1]
        return max(0, last - first) * 1_000 / (last_ms - first_ms)
