"""Synchronisation behind one call, for whoever reads a partition.

One `Synchronizer` per worker process and run of a group, found through `acquire`. Readers call `turn` at the start of every
call of `process` and after every batch; nothing in it waits for input or output.
"""

import logging
import os
import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from beam_unified.offsets import TopicPartition
from beam_unified.sync.options import ReaderRules, SyncGroup
from beam_unified.sync.policy import Hold, Verdict, closed_gates, judge
from beam_unified.sync.rates import Meter
from beam_unified.sync.reduction import GroupView
from beam_unified.sync.reports import NO_LIMIT, PAST_ALL, UNKNOWN, Level, Phase, RateLimit, Report
from beam_unified.sync.seat import Seat

_LOGGER = logging.getLogger(__name__)

_LOST_AFTER_S = 5.0  # or five intervals: how long reports may take before the coordinator counts as lost
_SAY_AGAIN_S = 60.0  # how often a reader that is held says whom it waits for

_HELD_PHASES = {Hold.GATE: Phase.HELD_BY_GATE, Hold.DRIFT: Phase.HELD_BY_DRIFT}


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What a reader may do now.

    Attributes:
        hold: Why it must not read; None where it may. Held readers defer, and ask again.
        records: At most so many records until the next turn; None is without limit.
        emit_before: Emit records with event time below this only (microseconds), and call `reached_limit` where the first
            of a fetch is not; None is without limit.
        watermark_cap: The watermark to report is never above this level (S5).
        held_ms: Since the last turn of this member: milliseconds held, by reason.
    """

    hold: Hold | None
    records: int | None
    emit_before: int | None
    watermark_cap: Level
    held_ms: Mapping[Hold, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncHealth:
    """The state of the group as this worker sees it, for metrics.

    Attributes:
        gap_ms: Event time between the slowest reader that drift counts and the fastest; None where it is not known.
        silent: Number of members that have gone silent.
        lost_ms: How long this worker's reports have not come back from the coordinator; 0 while they do.
    """

    gap_ms: int | None
    silent: int
    lost_ms: int


class Synchronizer:
    """What the readers of one process share of their group. Thread safe."""

    def __init__(self, group: SyncGroup) -> None:
        """Joins the log of the group's run; returns at once. `acquire` is the way to get one."""
        self._group, self._clock = group, group.clock
        self._interval_s = group.report_interval_ms / 1_000
        self._max_drift = group.drift
        self._half_drift = PAST_ALL if group.drift is None else group.drift / 2
        self._view = GroupView(
            group.topics, stale_after_ms=group.stale_after_ms, ignore_silent=group.on_stale == "ignore"
        )
        self._author, self._sequence = uuid.uuid4().hex[:12], 0
        self._seats: dict[TopicPartition, Seat] = {}
        self._lost, self._watch_at = False, 0.0
        self._lock = threading.Lock()
        self._coordinator = group.coordinator.connect(group.name, group.run_id)

    def turn(
        self,
        member: TopicPartition,
        *,
        watermark: int | None,
        position: int,
        phase: Phase,
        partitions: int,
        rules: ReaderRules,
    ) -> Turn:
        """Reports, where a report is due, and says what the reader may do.

        Args:
            member: Topic and partition.
            watermark: Own watermark, in microseconds; not the one that was capped.
            position: Offset of the next record.
            phase: ARCHIVE, KAFKA, IDLE or DONE; that it is held the synchroniser knows better. DONE must be told once,
                also by a reader that has had nothing to read.
            partitions: How many partitions the topic has, by the newest metadata.
            rules: Gates and limit of the topic.
        """
        said = Report(
            member=member,
            watermark=watermark,
            position=position,
            phase=phase,
            partitions=partitions,
            author=self._author,
        )
        with self._lock:
            now = self._clock.monotonic()
            seat = self._seats.get(member)
            if seat is None:
                seat = self._seats[member] = Seat(meter=Meter.empty(now=now), turn_at=now)
            self._drain()
            verdict = self._judge(seat, said, rules)
            if self._report(seat, said, verdict, rules, now):
                self._drain()
                verdict = self._judge(seat, said, rules)
            self._watch_coordinator(now)
            return self._turn(seat, said, verdict, rules, now)

    def spent(self, member: TopicPartition, *, records: int, size_bytes: int) -> None:
        """A batch was read within the quota of the last turn."""
        with self._lock:
            seat = self._seats[member]
            if seat.allowed is not None:
                seat.meter = seat.meter.spent(records, size_bytes)
                seat.hungry |= records >= seat.allowed
            seat.records += records
            seat.size_bytes += size_bytes

    def reached_limit(self, member: TopicPartition, *, position: int) -> None:
        """The record at `position` is not below `emit_before`: until a gate opens, or it moves, there is nothing to do."""
        with self._lock:
            self._seats[member].limit_position = position

    def holds(self, member: TopicPartition) -> bool:
        """Whether the last turn of a member in this process held it."""
        seat = self._seats.get(member)
        return seat is not None and seat.hold is not None

    def health(self) -> SyncHealth:
        """For metrics."""
        with self._lock:
            slowest, fastest = self._view.minimum(), self._view.maximum()
            known = UNKNOWN < slowest <= fastest
            return SyncHealth(
                gap_ms=int(fastest - slowest) // 1_000 if known else None,
                silent=len(self._view.silent()),
                lost_ms=round(self._lost_s(self._clock.monotonic()) * 1_000),
            )

    def close(self) -> None:
        """Leaves the coordinator; waits some seconds, at most, for what was handed over to it."""
        self._coordinator.close()

    def _drain(self) -> None:
        for logged in self._coordinator.drain():
            entry = logged.entry
            seat = self._seats.get(entry.member) if isinstance(entry, Report) else None
            if not self._view.observe(logged) or seat is None or not isinstance(entry, Report):
                continue
            if entry.author == self._author:
                seat.came_back(entry, self._view.claims_of_others(entry.member, entry.partitions))
            else:
                seat.share = seat.share.taken_over()

    def _judge(self, seat: Seat, said: Report, rules: ReaderRules) -> Verdict:
        reached = seat.limit_position == said.position
        return judge(self._view, said.level, rules, max_drift=self._max_drift, reached_limit=reached)

    def _report(self, seat: Seat, said: Report, verdict: Verdict, rules: ReaderRules, now: float) -> bool:
        """Publishes where it is due."""
        done = said.phase is Phase.DONE
        seat.active |= verdict.hold is None and not done
        phase = said.phase if done or verdict.hold is None else _HELD_PHASES[verdict.hold]
        if not seat.report_due(said.level, phase, now=now, interval_s=self._interval_s, half_drift=self._half_drift):
            return False
        limit = self._limit(said.member, rules)
        if seat.hungry and limit != NO_LIMIT and not done and verdict.hold is None:
            phase = Phase.HELD_BY_RATE
        others = self._view.claims_of_others(said.member, said.partitions)
        claim = seat.claim(others, limit, phase, now=now)
        self._sequence += 1
        report = Report(
            member=said.member,
            watermark=said.watermark,
            position=said.position,
            phase=phase,
            partitions=said.partitions,
            claim=claim,
            author=self._author,
            sequence=self._sequence,
        )
        seat.handed_over(report, now=now)
        self._coordinator.publish(report)
        return True

    def _turn(self, seat: Seat, said: Report, verdict: Verdict, rules: ReaderRules, now: float) -> Turn:
        hold, records = verdict.hold, None
        limit = self._limit(said.member, rules)
        if limit == NO_LIMIT:
            seat.allowed = None
        else:
            seat.meter = seat.meter.refilled(limit, seat.share.usable, now)
        if said.phase is Phase.DONE:
            hold = None
        elif not self._coordinator.caught_up():
            hold = Hold.COORDINATOR
        elif hold is None and limit != NO_LIMIT:
            records = seat.allowed = seat.meter.allows(limit, seat.share.usable)
            if records == 0:
                hold, seat.hungry = Hold.RATE, True
        held_ms = {} if seat.hold is None else {seat.hold: round((now - seat.turn_at) * 1_000)}
        if hold is not seat.hold:
            seat.held_since = now
        elif hold not in {None, Hold.RATE} and now - seat.held_since >= _SAY_AGAIN_S:
            seat.held_since = now
            self._say_held(said, hold, rules)
        seat.turn_at, seat.hold = now, hold
        return Turn(
            hold=hold,
            records=records,
            emit_before=verdict.emit_before,
            watermark_cap=verdict.watermark_cap,
            held_ms=held_ms,
        )

    def _limit(self, member: TopicPartition, rules: ReaderRules) -> RateLimit:
        changed = self._view.changed_limit(member.topic)
        return rules.limit if changed is None else changed

    def _say_held(self, said: Report, hold: Hold | None, rules: ReaderRules) -> None:
        match hold:
            case Hold.GATE:
                gate = closed_gates(self._view, rules)[0]
                waits_for = f"{gate}: {self._view.awaited([gate.topic])}"
            case Hold.DRIFT:
                waits_for = self._view.awaited()
            case _:
                waits_for = "the coordinator: check that it can be reached from this worker"
        _LOGGER.warning(
            "sync group %r: %s at offset %d has been held by %s for a minute; it waits for %s",
            self._group.name, said.member, said.position, "nothing" if hold is None else hold.value, waits_for,
        )  # fmt: skip

    def _lost_s(self, now: float) -> float:
        waiting = [seat.unread_since for seat in self._seats.values() if seat.unread_since is not None]
        lost_s = now - min(waiting, default=now)
        return lost_s if lost_s > max(_LOST_AFTER_S, 5 * self._interval_s) else 0.0

    def _watch_coordinator(self, now: float) -> None:
        if now < self._watch_at:  # it looks at every reader
            return
        self._watch_at = now + 1.0
        lost = self._lost_s(now) > 0
        if lost is not self._lost:
            self._lost = lost
            if lost:
                _LOGGER.error(
                    "sync group %r: reports do not come back from the coordinator; going on with what was known last. "
                    "Closed gates stay closed. Check the brokers.", self._group.name,
                )  # fmt: skip
            else:
                _LOGGER.warning("sync group %r: the coordinator is back", self._group.name)


_living: dict[tuple[str, str], tuple[Synchronizer, int]] = {}
_living_lock = threading.Lock()


def acquire(group: SyncGroup) -> Synchronizer:
    """The synchroniser of a run in this process, made at the first call. Every call needs one `release`."""
    key = group.name, group.run_id
    with _living_lock:
        synchronizer, users = _living.get(key) or (Synchronizer(group), 0)
        _living[key] = synchronizer, users + 1
        return synchronizer


def release(group: SyncGroup) -> None:
    """Gives it back; the last one closes it."""
    key = group.name, group.run_id
    with _living_lock:
        synchronizer, users = _living.pop(key)
        if users > 1:
            _living[key] = synchronizer, users - 1
            return
    synchronizer.close()


def _forget() -> None:
    """A forked child has neither the threads nor the sockets of its parent: it makes its own."""
    global _living_lock  # noqa: PLW0603 - the parent's may have been held by a thread that is not here
    _living_lock = threading.Lock()
    _living.clear()


os.register_at_fork(after_in_child=_forget)
