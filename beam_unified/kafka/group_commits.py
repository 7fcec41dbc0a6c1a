"""Positions committed to a consumer group, for lag monitors (Burrow, kafka-lag-exporter, consoles). Nobody reads from them.

A thread of its own commits, at intervals: whoever notes a position waits for nothing, and brokers that are away cost a warning.
"""

import logging
import threading
from collections.abc import Mapping

from kafka import KafkaConsumer
from kafka import TopicPartition as ClientTopicPartition
from kafka import errors as client_errors
from kafka.structs import OffsetAndMetadata

from beam_unified.errors import UnifiedLogError
from beam_unified.kafka.client import Kafka
from beam_unified.kafka.connecting import client_config, connected
from beam_unified.offsets import TopicPartition
from beam_unified.shared import Repeating, Shared

_LOGGER = logging.getLogger(__name__)

INTERVAL_S = 5.0  # lag monitors look every half minute or so
_TIMEOUT_MS = 10_000


class GroupCommitter:
    """Commits the newest positions of a process. Thread safe. Never raises: a monitor is no reason for a job to fail."""

    def __init__(self, kafka: Kafka, group: str, interval_s: float = INTERVAL_S) -> None:
        """Connects to nothing yet."""
        self._kafka, self._group = kafka, group
        self._lock, self._committing = threading.Lock(), threading.Lock()
        self._due: dict[TopicPartition, int] = {}
        self._closed = False
        self._later = Repeating(self._lock, interval_s, self._commit, lambda: bool(self._due) and not self._closed)

    def note(self, positions: Mapping[TopicPartition, int]) -> None:
        """What is behind these offsets is done with. The last one noted counts, also where it is lower: after a restore it is."""
        with self._lock:
            self._due.update(positions)
            self._later.check()

    def close(self) -> None:
        """Commits what is due."""
        with self._lock:
            self._closed = True
            self._later.stop()
        self._commit()

    def _commit(self) -> None:
        with self._committing:
            with self._lock:
                due, self._due = self._due, {}
            if not due:
                return
            try:
                self._send(due)
            except (client_errors.KafkaError, UnifiedLogError, OSError) as error:
                _LOGGER.warning(
                    "could not commit positions of %d partitions to group %r (%s); reading goes on. The group must have no "
                    "members, and the credentials Read on it.", len(due), self._group, type(error).__name__,
                )  # fmt: skip
                with self._lock:
                    self._due = {**due, **self._due}

    def _send(self, due: Mapping[TopicPartition, int]) -> None:
        """Over a connection of its own, every few seconds: one that is kept would have to be mended."""
        settings = {
            **client_config(self._kafka.config),
            "bootstrap_servers": str(self._kafka.bootstrap_servers).split(","),
            "group_id": self._group,
            "enable_auto_commit": False,
            "metrics_enabled": False,
        }
        consumer, _ = connected(KafkaConsumer, settings)
        try:
            offsets = {
                ClientTopicPartition(tp.topic, tp.partition): OffsetAndMetadata(offset, "beam_unified", -1)
                for tp, offset in due.items()
            }
            consumer.commit(offsets, timeout_ms=_TIMEOUT_MS)
        finally:
            consumer.close(autocommit=False)


COMMITTERS: Shared[GroupCommitter] = Shared()
"""Of this process, by the key of the transform."""


def close_all() -> None:
    """Commits what is due, for good. For the end of tests, whose workers were not torn down."""
    for committer in COMMITTERS.all():
        committer.close()
