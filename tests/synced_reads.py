"""A job of several `ReadUnified` in one sync group, on one worker, played by hand: who is called when is up to the test.

The readers are those that a runner would drive (residuals through their coders); time passes only when the test says so.
"""

from dataclasses import dataclass, field, replace
from typing import Any

from apache_beam.runners.sdf_utils import (
    RestrictionTrackerView,
    ThreadsafeRestrictionTracker,
    ThreadsafeWatermarkEstimator,
)

from beam_unified import KafkaTimestamp, ReadUnified, SyncGroup, TopicPartition, watermarks
from beam_unified.source.pacing import CallBudget
from beam_unified.testing import InMemoryLog, InMemoryTopics, ManualClock

SECOND = 1_000_000  # microseconds


@dataclass
class Seen:
    """A batch that came out. Microseconds."""

    tp: TopicPartition
    times: tuple[int, ...]
    at_ms: int


@dataclass
class Readers:
    """The readers of a job. `step` calls one of them; `crash` takes all back to the last `checkpoint`."""

    logs: dict[str, InMemoryLog]
    clock: ManualClock
    group: SyncGroup
    options: dict[str, dict[str, Any]]
    batch: int = 8
    seen: list[Seen] = field(default_factory=list)

    def __post_init__(self):
        topics = InMemoryTopics(*self.logs.values())
        self.dofns = {}
        self.residuals = {}
        for name in self.logs:
            read = ReadUnified(
                name, topics.kafka, topics.archive, timestamp_fn=KafkaTimestamp(), clock=self.clock, sync=self.group,
                on_progress=None, **self.options.get(name, {}),
            )  # fmt: skip
            dofn = self.dofns[name] = read.splittable_dofn()
            dofn.options = replace(dofn.options, budget=CallBudget(records=2 * self.batch, batch_records=self.batch))
            dofn.setup()
            numbers = topics.kafka.partitions(name)
            for number in numbers:
                element = (name, number, None, len(numbers))
                restriction = dofn.initial_restriction(element)
                state = dofn.initial_estimator_state(element, restriction)
                self.residuals[TopicPartition(name, number)] = self._written(dofn, restriction, state)
        self.own = dict.fromkeys(self.residuals)
        self.reported: dict[TopicPartition, int | None] = dict.fromkeys(self.residuals)
        self.checkpoint()

    @property
    def left(self):
        """Who has something to read."""
        return sorted(self.residuals)

    def step(self, tp):
        """One call of `process`, batch by batch."""
        dofn = self.dofns[tp.topic]
        element = (tp.topic, tp.partition, None, len(self.logs[tp.topic].kafka.partitions(tp.topic)))
        restriction, state = self._read(dofn, self.residuals.pop(tp))
        tracker = ThreadsafeRestrictionTracker(dofn.create_tracker(restriction))
        estimator = ThreadsafeWatermarkEstimator(dofn.create_watermark_estimator(state))
        for output in dofn.process(element, tracker=RestrictionTrackerView(tracker), estimator=estimator):
            self.seen.append(Seen(tp, tuple(output.value.micros), self.clock.now_ms()))
            yield self.seen[-1]
            self.own[tp] = watermarks.own(estimator.get_estimator_state())
        self.own[tp] = watermarks.own(estimator.get_estimator_state())
        self.reported[tp] = estimator.get_estimator_state().reported
        if (deferred := tracker.deferred_status()) is not None:
            self.residuals[tp] = self._written(dofn, deferred[0], estimator.get_estimator_state())
        tracker.check_done()

    def run(self, tp):
        """One call, for whoever does not look at each batch."""
        return list(self.step(tp))

    def backlog(self, tp):
        """What a runner is told."""
        dofn = self.dofns[tp.topic]
        return dofn.restriction_size((tp.topic, tp.partition), self._read(dofn, self.residuals[tp])[0])

    def checkpoint(self):
        """What is kept over a crash."""
        self._kept = dict(self.residuals), dict(self.own), len(self.seen)

    def crash(self):
        """The worker is killed and started again. What was emitted since the checkpoint, the runner takes back."""
        self.close()
        for dofn in self.dofns.values():
            dofn.setup()
        residuals, own, seen = self._kept
        self.residuals, self.own = dict(residuals), dict(own)
        del self.seen[seen:]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """The end of the worker."""
        for dofn in self.dofns.values():
            dofn.teardown()

    def _written(self, dofn, restriction, state):
        return dofn.restriction_coder().encode(restriction), dofn.estimator_state_coder().encode(state)

    def _read(self, dofn, residual):
        return dofn.restriction_coder().decode(residual[0]), dofn.estimator_state_coder().decode(residual[1])
