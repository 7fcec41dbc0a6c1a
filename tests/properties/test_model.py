"""The whole source against a list: producers, an archiver, retention, late files, new partitions, and a runner.

The runner here does what runners do: it calls `process`, splits it in mid-call, keeps residuals as bytes in any order,
takes checkpoints and crashes back to them. The model is a list of what was produced. At every moment each record has been
emitted once, or lies in exactly one residual; and none was emitted behind the watermark.
"""

import itertools
from dataclasses import replace
from typing import Any

import pytest
from apache_beam.pvalue import TaggedOutput
from apache_beam.runners.sdf_utils import (
    RestrictionTrackerView,
    ThreadsafeRestrictionTracker,
    ThreadsafeWatermarkEstimator,
)
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from beam_unified.event_time import KafkaTimestamp
from beam_unified.offsets import TopicPartition
from beam_unified.records import Record
from beam_unified.source.dofn import ReadUnbounded
from beam_unified.source.pacing import CallBudget
from beam_unified.source.tracker import LogTracker
from beam_unified.testing import InMemoryLog, ManualClock
from beam_unified.transforms import ReadUnified
from tests.strategies import TOPIC, CachedListing, without_store

pytestmark = pytest.mark.rule("R1", "R2", "R5", "R7", "R10", "T1", "T4", "B5")

FOUND_LATER_MS = 1


class Interrupted(LogTracker):
    """A tracker whose claims something comes before."""

    def __init__(self, restriction, before_claim):
        super().__init__(restriction)
        self._before_claim = before_claim

    def try_claim(self, position):
        self._before_claim()
        return super().try_claim(position)


class Source:
    """The transform's DoFn on one worker. `dofn` is replaced after a crash, and with it every open reader."""

    def __init__(self, log, clock, budget, options):
        self._log, self._clock, self._budget, self._options = log, clock, budget, options
        self._begin()

    def restart(self):
        """A new worker."""
        self.dofn.teardown()
        self._begin()

    def _begin(self):
        read = ReadUnified(
            TOPIC, self._log.kafka, Halves(self._log), timestamp_fn=KafkaTimestamp(), clock=self._clock,
            **{"on_gap": "wait", **self._options},
        )  # fmt: skip
        dofn = read.splittable_dofn()
        assert isinstance(dofn, ReadUnbounded)
        dofn.options = replace(dofn.options, budget=self._budget)
        self.dofn, self.explode = dofn, read.explode_dofn()
        self.dofn.setup()

    def assign(self, partition, unseen_ms):
        """The residuals with which a runner begins to read a partition."""
        element = (TOPIC, partition, unseen_ms)
        return [self._written(element, restriction, self.dofn.initial_estimator_state(element, restriction))
                for restriction in self.dofn.split(element, self.dofn.initial_restriction(element))]  # fmt: skip

    def call(self, residual, split_at, fraction):
        """One call of `process`, split before its n-th claim: what it emitted, other outputs too, and the residuals."""
        element, restriction, state = residual
        estimator = ThreadsafeWatermarkEstimator(
            self.dofn.create_watermark_estimator(self.dofn.estimator_state_coder().decode(state))
        )
        emitted, left, claims = [], [], itertools.count()

        def split_now():
            split = tracker.try_split(fraction) if next(claims) == split_at else None
            if split is not None:
                left.append(self._written(element, split[1], estimator.get_estimator_state()))

        tracker = ThreadsafeRestrictionTracker(
            Interrupted(self.dofn.restriction_coder().decode(restriction), split_now)
        )
        for output in self.dofn.process(element, tracker=RestrictionTrackerView(tracker), estimator=estimator):
            is_apart = isinstance(output, TaggedOutput)
            emitted += [output.value.value] if is_apart else [one.value for one in self.explode.process(output.value)]
        deferred = tracker.deferred_status()
        if deferred is not None:
            left.append(self._written(element, deferred[0], estimator.get_estimator_state()))
        tracker.check_done()
        reported = estimator.get_estimator_state().reported
        times = [one.timestamp or 0 for one in emitted if isinstance(one, Record)]
        assert all(reported is None or reported <= timestamp * 1_000 for timestamp in times)
        return emitted, left

    def range_of(self, residual):
        """The offsets it is responsible for."""
        restriction = self.dofn.restriction_coder().decode(residual[1])
        return restriction.start, restriction.stop

    def _written(self, element, restriction, state):
        return (
            element,
            self.dofn.restriction_coder().encode(restriction),
            self.dofn.estimator_state_coder().encode(state),
        )


class Halves:
    """The archive in memory, with a listing as old as a real one's."""

    def __init__(self, log):
        self._log = log

    def connect(self):
        return CachedListing(self._log.archive)


class Model(RuleBasedStateMachine):
    """See the module."""

    @initialize(
        ordered=st.booleans(),
        prefer=st.sampled_from(("archive", "kafka")),
        budget=st.builds(CallBudget, records=st.integers(1, 12), batch_records=st.integers(1, 5)),
        before=st.lists(st.integers(1, 12), max_size=4),
    )
    def begin(self, ordered, prefer, budget, before):
        self.log, self.clock = InMemoryLog(TOPIC), ManualClock(1_000_000)
        self.produced: dict[int, list[Record]] = {0: []}
        self.removed = []
        for count in before:
            self.produce(0, count)
            self.archive(0)
        options = {"ordered": ordered, "prefer": prefer, "output": "record"}
        self.source = Source(self.log, self.clock, budget, options)
        self.residuals = self.source.assign(0, None)
        self.emitted = []
        self.saved: tuple[list[Any], list[Record]] = (list(self.residuals), [])

    def partitions(self):
        return range(len(self.produced))

    def pick(self, data):
        return data.draw(st.sampled_from(self.partitions()), label="partition")

    def archived(self, partition):
        return self.log.archive.index(TopicPartition(TOPIC, partition)).stop or 0

    # -- the world

    def produce(self, partition, count):
        for _ in range(count):
            self.log.append(partition, b"%d" % len(self.produced[partition]), timestamp=self.clock.now_ms())
            self.produced[partition].append(self.log.records(partition)[-1])

    @rule(data=st.data(), count=st.integers(1, 8))
    def producer_writes(self, data, count):
        self.produce(self.pick(data), count)

    @rule(data=st.data(), count=st.integers(1, 3))
    def transaction_aborts(self, data, count):
        self.log.hole(self.pick(data), count)

    def archive(self, partition):
        tp = TopicPartition(TOPIC, partition)
        if not self.removed and self.archived(partition) < self.log.kafka.bounds(tp).stop:
            self.log.flush(partition)

    @rule(data=st.data())
    def archiver_flushes(self, data):
        self.archive(self.pick(data))

    @rule(data=st.data())
    def archiver_retries_with_other_boundaries(self, data):
        partition = self.pick(data)
        held = self.log.kafka.bounds(TopicPartition(TOPIC, partition))
        archived = self.archived(partition)
        if not self.removed and held.start < held.stop and held.start <= archived:
            start = data.draw(st.integers(held.start, min(archived, held.stop - 1)))
            self.log.flush(partition, start, data.draw(st.integers(start + 1, held.stop)))

    @rule(data=st.data())
    def retention_passes(self, data):
        """What is archived, or about to land late."""
        partition = self.pick(data)
        archived = max([self.archived(partition), *(flush.stop for at, flush, _ in self.removed if at == partition)])
        self.log.expire(partition, data.draw(st.integers(0, archived)))

    @rule(data=st.data())
    @precondition(lambda self: not self.removed)
    def file_is_late(self, data):
        """A flush that is not there yet, whoever may have listed it or wait for it."""
        partition = self.pick(data)
        flushes = list(self.log.archive.index(TopicPartition(TOPIC, partition)))
        if flushes:
            flush = data.draw(st.sampled_from(flushes))
            self.removed.append((partition, flush, self.log.remove(partition, flush)))
            self.source.restart()  # a listing that still names it would be of a file that was there and is gone

    @rule()
    @precondition(lambda self: self.removed)
    def file_lands(self):
        partition, flush, records = self.removed.pop()
        self.log.restore(partition, flush, records)

    @rule()
    @precondition(lambda self: len(self.produced) < 3)
    def partition_is_added(self):
        """It is found later, and read from its beginning."""
        partition = self.log.add_partition()
        self.produced[partition] = []
        new = self.source.assign(partition, FOUND_LATER_MS)
        self.residuals += new
        self.saved = (self.saved[0] + new, self.saved[1])  # what has been found is remembered at once

    @rule(milliseconds=st.integers(1, 60_000))
    def time_passes(self, milliseconds):
        self.clock.advance(milliseconds)

    # -- the runner

    @rule(
        data=st.data(),
        split_at=st.none() | st.integers(0, 2),
        fraction=st.sampled_from((0.0, None, 0.3, 0.5, 0.9)),
    )
    @precondition(lambda self: self.residuals)
    def runner_calls(self, data, split_at, fraction):
        one = data.draw(st.integers(0, len(self.residuals) - 1), label="residual")
        emitted, left = self.source.call(self.residuals[one], split_at, fraction)
        self.emitted += emitted
        self.residuals[one : one + 1] = left
        self.clock.advance(100)

    @rule(data=st.data())
    @precondition(lambda self: self.residuals)
    def runner_calls_undisturbed(self, data):
        self.runner_calls(data, None, None)

    @rule()
    def runner_takes_a_checkpoint(self):
        self.saved = (list(self.residuals), list(self.emitted))

    @rule()
    def worker_crashes(self):
        """State goes back, and what came after it was never written anywhere."""
        self.job_restarts_on_the_same_worker()
        self.source.restart()

    @rule()
    def job_restarts_on_the_same_worker(self):
        """As Flink does after another worker died: open files and consumers stand beyond the state they meet."""
        self.residuals, self.emitted = list(self.saved[0]), list(self.saved[1])

    # -- what must hold

    @invariant()
    def each_record_has_been_emitted_or_lies_in_one_residual(self):
        if not hasattr(self, "source"):
            return
        for partition, records in self.produced.items():
            ranges = [self.source.range_of(rest) for rest in self.residuals if rest[0][1] == partition]
            left = [
                record.offset
                for record in records
                for start, stop in ranges
                if start <= record.offset and (stop is None or record.offset < stop)
            ]
            emitted = [record.offset for record in self.emitted if record.partition == partition]
            assert sorted(emitted + left) == [record.offset for record in records]

    def teardown(self):
        """Late files land, and everything is read to the end: the list, each record with its bytes."""
        if not hasattr(self, "source"):
            return
        while self.removed:
            self.file_lands()
        for _ in range(2_000):
            waiting = list(self.residuals)
            self.residuals = []
            before = len(self.emitted)
            for residual in waiting:
                emitted, left = self.source.call(residual, None, None)
                self.emitted += emitted
                self.residuals += left
            self.clock.advance(1_100)
            if len(self.emitted) == before and self.caught_up():
                break
        for partition, records in self.produced.items():
            found = sorted((r for r in self.emitted if r.partition == partition), key=lambda record: record.offset)
            assert list(without_store(found)) == list(without_store(records))
        self.source.dofn.teardown()

    def caught_up(self):
        return all(self.source.range_of(rest)[1] is None for rest in self.residuals) and sum(
            map(len, self.produced.values())
        ) == len(self.emitted)


TestModel = Model.TestCase
