"""Positions of readers on their way to a consumer group: committed when the runner has made safe what was emitted before them.

A DoFn of its own behind the source, because a DoFn that asks for bundle finalization needs a runner that has it.
"""

from collections.abc import Callable
from typing import Any

import apache_beam as beam

from beam_unified.kafka.client import Kafka
from beam_unified.kafka.group_commits import COMMITTERS, GroupCommitter
from beam_unified.offsets import TopicPartition

Position = tuple[str, int, int]
"""Topic, partition, offset of the next record."""


class CommitPositions(beam.DoFn):
    """Notes positions when their bundle is final."""

    def __init__(self, key: str, kafka: Kafka, group: str) -> None:
        self._key, self._kafka, self._group = key, kafka, group
        self._committer: GroupCommitter | None = None

    def setup(self) -> None:
        """Joins the committer of this process."""
        self._committer = COMMITTERS.acquire(self._key, lambda: GroupCommitter(self._kafka, self._group))

    def teardown(self) -> None:
        """Leaves it; the last one commits what is due."""
        if self._committer is not None:
            self._committer = None
            COMMITTERS.release(self._key)

    def process(self, position: Position, finalizer: Any = beam.DoFn.BundleFinalizerParam) -> None:
        """One a call of the source."""
        assert self._committer is not None, "Beam sets a DoFn up before it calls process"
        topic, partition, offset = position
        finalizer.register(_noting(self._committer, TopicPartition(topic, partition), offset))

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_committer": None}


def _noting(committer: GroupCommitter, tp: TopicPartition, offset: int) -> Callable[[], None]:
    return lambda: committer.note({tp: offset})
