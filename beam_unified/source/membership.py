"""What the readers of a transform have to do with their sync group: on a worker, and when the pipeline is built.

`dofn` asks before every batch and tells after it; without a group the answers are always the same. The rules are in `sync`;
here they meet Beam: its metrics, and its pipelines.
"""

import threading
import weakref
from collections.abc import Mapping
from dataclasses import dataclass

from apache_beam.pipeline import Pipeline

from beam_unified import metrics
from beam_unified.errors import ConfigError
from beam_unified.offsets import TopicPartition
from beam_unified.records import Store
from beam_unified.source.discovery import Assigned
from beam_unified.source.options import Synchronised
from beam_unified.sync import synchronizer
from beam_unified.sync.options import Gate, SyncGroup, check_gates
from beam_unified.sync.reports import PAST_ALL, Phase
from beam_unified.sync.synchronizer import Turn

_FREE = Turn(hold=None, records=None, emit_before=None, watermark_cap=PAST_ALL, held_ms={})
_GAUGES_EVERY_S = 1.0
_PHASES = {Store.ARCHIVE: Phase.ARCHIVE, Store.KAFKA: Phase.KAFKA}


class Membership:
    """Of readers without a group: they may always read."""

    def turn(self, member: Assigned, watermark: int | None, position: int) -> Turn:
        """What a reader may do now.

        Args:
            member: Its partition.
            watermark: Its own, microseconds.
            position: Its next offset.
        """
        del member, watermark, position
        return _FREE

    def spent(self, tp: TopicPartition, store: Store, *, records: int, size_bytes: int) -> None:
        """A batch was read within the quota of the last turn."""

    def idle(self, tp: TopicPartition) -> None:
        """The reader is at the end of its log."""

    def reached_limit(self, tp: TopicPartition, position: int) -> None:
        """The record at `position` is behind what a gate allows."""

    def done(self, member: Assigned, watermark: int | None, position: int) -> None:
        """The restriction has ended."""

    def holds(self, tp: TopicPartition) -> bool:
        """Whether the reader is kept from reading on purpose, by its last turn in this process."""
        del tp
        return False

    def leave(self) -> None:
        """No reader of this DoFn is left."""


ALONE = Membership()


class _InGroup(Membership):
    """Of readers in a group. Keeps what they do, for their reports, and the metrics."""

    def __init__(self, synchronised: Synchronised, first_phase: Phase) -> None:
        self._group, self._rules, self._clock = synchronised.group, synchronised.rules, synchronised.group.clock
        self._first_phase = first_phase
        self._phases: dict[TopicPartition, Phase] = {}
        self._synchronizer = synchronizer.acquire(self._group)
        self._gauges_at = float("-inf")

    def turn(self, member: Assigned, watermark: int | None, position: int) -> Turn:
        turn = self._ask(member, watermark, position, self._phases.get(member.tp, self._first_phase))
        for hold, milliseconds in turn.held_ms.items():
            metrics.HELD_MS[hold.value].of(member.topic).inc(milliseconds)
        self._set_gauges()
        return turn

    def spent(self, tp: TopicPartition, store: Store, *, records: int, size_bytes: int) -> None:
        self._phases[tp] = _PHASES[store]
        self._synchronizer.spent(tp, records=records, size_bytes=size_bytes)

    def idle(self, tp: TopicPartition) -> None:
        self._phases[tp] = Phase.IDLE

    def reached_limit(self, tp: TopicPartition, position: int) -> None:
        self._synchronizer.reached_limit(tp, position=position)

    def done(self, member: Assigned, watermark: int | None, position: int) -> None:
        self._phases.pop(member.tp, None)
        self._ask(member, watermark, position, Phase.DONE)

    def holds(self, tp: TopicPartition) -> bool:
        return self._synchronizer.holds(tp)

    def leave(self) -> None:
        synchronizer.release(self._group)

    def _ask(self, member: Assigned, watermark: int | None, position: int, phase: Phase) -> Turn:
        return self._synchronizer.turn(
            member.tp,
            watermark=watermark,
            position=position,
            phase=phase,
            partitions=member.partitions,
            rules=self._rules,
        )

    def _set_gauges(self) -> None:
        now = self._clock.monotonic()
        if now - self._gauges_at < _GAUGES_EVERY_S:  # they look at every member
            return
        self._gauges_at = now
        health = self._synchronizer.health()
        if health.gap_ms is not None:
            metrics.SYNC_GAP_MS.of().set(health.gap_ms)
        metrics.SYNC_SILENT.of().set(health.silent)
        metrics.SYNC_LOST_MS.of().set(health.lost_ms)


def join(synchronised: Synchronised | None, *, with_archive: bool) -> Membership:
    """The membership of a DoFn. Every call needs one `leave`."""
    if synchronised is None:
        return ALONE
    return _InGroup(synchronised, Phase.ARCHIVE if with_archive else Phase.KAFKA)


# -- when the pipeline is built


@dataclass(frozen=True, slots=True)
class _Registered:
    """What was built of a group so far."""

    group: SyncGroup
    gates: Mapping[str, tuple[Gate, ...]]


_built: "weakref.WeakKeyDictionary[Pipeline, tuple[_Registered, ...]]" = weakref.WeakKeyDictionary()
_built_lock = threading.Lock()


def register(pipeline: Pipeline, synchronised: Synchronised, topics: tuple[str, ...]) -> None:
    """A transform of a group becomes part of a pipeline.

    Raises:
        ConfigError: the group belongs to another pipeline, has another one of the same name here, reads a topic twice, or its
            gates would never open.
    """
    group, rules = synchronised.group, synchronised.rules
    with _built_lock:
        elsewhere = [found for other, known in _built.items() if other is not pipeline for found in known]
        if any(found.group is group for found in elsewhere):
            raise ConfigError(
                f"sync group {group.name!r} is part of another pipeline: make a SyncGroup for each, or their runs would take "
                "each other for members."
            )
        here = _built.get(pipeline, ())
        for found in here:
            if found.group.name == group.name and found.group.run_id != group.run_id:
                raise ConfigError(
                    f"there are two sync groups {group.name!r} in this pipeline: give one SyncGroup to every ReadUnified of it."
                )
        gates = {topic: known for found in here if found.group is group for topic, known in found.gates.items()}
        if twice := sorted(set(topics) & gates.keys()):
            raise ConfigError(
                f"topic {twice[0]!r} is read twice in sync group {group.name!r}: a member of the group is one partition of "
                "one topic. Read it once and use the PCollection twice, or read it a second time without sync."
            )
        gates.update(dict.fromkeys(topics, rules.gates))
        check_gates(group, gates)
        _built[pipeline] = (*here, _Registered(group, dict.fromkeys(topics, rules.gates)))
