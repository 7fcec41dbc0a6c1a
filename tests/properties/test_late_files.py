"""Late files in a whole source: each record is emitted, or in a file that was told of, or nowhere.

A producer, an archiver, retention that does not wait for it, files that are late and land with other boundaries; a runner
that splits, takes checkpoints and crashes back to them. As in `test_model`, but the reader skips gaps instead of waiting.
"""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from beam_unified.dead_letters import DeadLetter
from beam_unified.flushes import Flush
from beam_unified.late_files import LateFile
from beam_unified.records import Record
from beam_unified.source.pacing import CallBudget
from beam_unified.testing import InMemoryLog, ManualClock
from tests.properties.test_model import Source
from tests.strategies import TOPIC, TP

pytestmark = pytest.mark.rule("A4", "R5")


class LateFiles(RuleBasedStateMachine):
    """See the module."""

    @initialize(
        prefer=st.sampled_from(("archive", "kafka")),
        budget=st.builds(CallBudget, records=st.integers(1, 12), batch_records=st.integers(1, 5)),
        before=st.lists(st.integers(1, 12), max_size=4),
    )
    def begin(self, prefer, budget, before):
        self.log, self.clock = InMemoryLog(TOPIC), ManualClock(1_000_000)
        self.produced: list[Record] = []
        self.late: list[Flush] = []
        for count in before:
            self.produce(count)
            self.archive()
        options = {
            "prefer": prefer, "output": "record", "on_gap": "skip", "gap_timeout": timedelta(0), "dead_letters": True,
            "late_files": True, "late_file_interval": timedelta(seconds=1),
        }  # fmt: skip
        self.source = Source(self.log, self.clock, budget, options)
        self.residuals = self.source.assign(0, None)
        self.emitted: list[Any] = []
        self.saved: tuple[list[Any], list[Any]] = (list(self.residuals), [])

    def flushes(self):
        return list(self.log.archive.index(TP))

    @rule(count=st.integers(1, 8))
    def produce(self, count):
        for _ in range(count):
            self.log.append(0, b"%d" % len(self.produced), timestamp=self.clock.now_ms())
            self.produced.append(self.log.records(0)[-1])

    @rule()
    def archive(self):
        held = self.log.kafka.bounds(TP)
        archived = max([0, *(flush.stop for flush in [*self.flushes(), *self.late])])
        if max(archived, held.start) < held.stop:
            self.log.flush(0, max(archived, held.start), held.stop)

    @rule(data=st.data())
    @precondition(lambda self: self.flushes())
    def file_is_late(self, data):
        """It is not there yet, whoever may have listed it."""
        flush = data.draw(st.sampled_from(self.flushes()))
        self.log.remove(0, flush)
        self.late.append(flush)
        self.source.restart()

    @rule(data=st.data(), below=st.integers(0, 4), above=st.integers(0, 4))
    @precondition(lambda self: self.late)
    def file_lands(self, data, below, above):
        """With other boundaries than it should have had: it holds some of what was read already."""
        flush = data.draw(st.sampled_from(self.late))
        self.late.remove(flush)
        start, stop = max(0, flush.start - below), min(len(self.produced), flush.stop + above)
        records = tuple(self.produced[start:stop])
        self.log.restore(0, Flush(start, stop, records[0].timestamp, records[-1].timestamp), records)

    @rule(data=st.data())
    def retention_passes(self, data):
        """Perhaps before the archiver has come: then records are lost for good."""
        self.log.expire(0, data.draw(st.integers(0, len(self.produced))))

    @rule(milliseconds=st.integers(1, 3_000))
    def time_passes(self, milliseconds):
        self.clock.advance(milliseconds)

    @rule(data=st.data(), split_at=st.none() | st.integers(0, 4), fraction=st.sampled_from((0.0, None, 0.5)))
    @precondition(lambda self: self.residuals)
    def runner_calls(self, data, split_at, fraction):
        one = data.draw(st.integers(0, len(self.residuals) - 1), label="residual")
        emitted, left = self.source.call(self.residuals[one], split_at, fraction)
        self.emitted += emitted
        self.residuals[one : one + 1] = left

    @rule()
    def runner_takes_a_checkpoint(self):
        self.saved = (list(self.residuals), list(self.emitted))

    @rule()
    def worker_crashes(self):
        self.residuals, self.emitted = list(self.saved[0]), list(self.saved[1])
        self.source.restart()

    def teardown(self):
        """Everything is read to the end, and looked for once more."""
        if not hasattr(self, "source"):
            return
        for _ in range(2_000):
            self.clock.advance(1_100)
            before, (waiting,) = len(self.emitted), self.residuals
            emitted, self.residuals = self.source.call(waiting, None, None)
            self.emitted += emitted
            start, _ = self.source.range_of(self.residuals[0])
            if len(self.emitted) == before and start == len(self.produced):
                break
        self.source.dofn.teardown()
        read = [one.offset for one in self.emitted if isinstance(one, Record)]
        late = [one for one in self.emitted if isinstance(one, LateFile)]
        told = [offset for one in late for start, stop in one.skipped for offset in range(start, stop)]
        gaps = [range(one.offset, one.stop) for one in self.emitted if isinstance(one, DeadLetter)]
        skipped = sorted(offset for gap in gaps for offset in gap)
        assert read == sorted(set(read))
        assert sorted(read + skipped) == list(range(len(self.produced)))
        assert len(told) == len(set(told))
        assert set(told) <= set(skipped)
        there = {offset for flush in self.flushes() for offset in range(flush.start, flush.stop)}
        assert there & set(skipped) <= set(told)
        assert all(one.start <= start < stop <= one.stop for one in late for start, stop in one.skipped)


TestLateFiles = LateFiles.TestCase
