"""The coordinator over a topic of Kafka: any number of workers on any runner, and no service beside Kafka (rule S6).

The topic has one partition, for one order; whoever comes first creates it. Keys name group, run and subject, so that
compaction keeps the newest report of each member. `sync_connection` reads and writes it.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from kafka import KafkaAdminClient
from kafka import errors as client_errors

from beam_unified.clock import SYSTEM_CLOCK
from beam_unified.errors import ConfigError, KafkaSecurityError, KafkaUnavailableError
from beam_unified.kafka.client import Kafka
from beam_unified.kafka.connecting import connected
from beam_unified.kafka.producers import client_settings
from beam_unified.kafka.sync_connection import KafkaCoordinator
from beam_unified.sync.reports import Entry, LimitChange, RateLimit, Report

_DAY_MS = 86_400_000
_CONFIRM_S = 30.0

_TOPIC: Mapping[str, str] = {
    "cleanup.policy": "compact,delete",
    # Of groups that never run again. No run may go on for longer after one of its readers is done.
    "retention.ms": str(90 * _DAY_MS),
    "message.timestamp.type": "LogAppendTime",  # one clock for all workers: who is silent is judged by it
    "min.compaction.lag.ms": "600000",  # a worker that reads behind must not miss what stood before its own reports
    "segment.ms": "3600000",
    "segment.bytes": str(64 * 1024 * 1024),
}


@dataclass(frozen=True, kw_only=True)
class KafkaSyncTopic:
    """The log of a sync group in a topic of Kafka.

    Args:
        kafka: Where. Its credentials need Read, Write and Describe on the topic, and Create unless it exists.
        topic: Name of the topic; "beam-unified-sync-" and the group's name by default. One that is created beforehand must
            have one partition and `cleanup.policy` compact or compact,delete.
        replication_factor: Of a topic that is created; None is the brokers' default.

    Runs that have said nothing for a week are forgotten when the next run of the group begins.
    """

    kafka: Kafka
    topic: str = ""
    replication_factor: int | None = None

    def connect(self, group: str, run_id: str) -> KafkaCoordinator:
        """Joins the log of a run; returns at once."""
        topic = self.topic_of(group)
        return KafkaCoordinator(self.kafka, topic, group, run_id, create_topic=lambda: _create_topic(self, topic))

    def topic_of(self, group: str) -> str:
        """Name of the topic."""
        return self.topic or f"beam-unified-sync-{group}"


def set_rate_limit(
    coordinator: KafkaSyncTopic, topic: str, limit: RateLimit, *, group: str, run_id: str, timeout_s: float = _CONFIRM_S
) -> None:
    """Changes the rate limit of a topic in a running job; every worker obeys it within two report intervals (S4).

    Waits until the log has it. It holds until it is changed again, also through restarts of the run.

    Raises:
        ConfigError: nobody reads that topic in that run.
        KafkaUnavailableError: no answer from the brokers in time.
    """
    change, name = LimitChange(topic=topic, limit=limit), coordinator.topic_of(group)
    with contextlib.closing(coordinator.connect(group, run_id)) as connection:
        entries = _read_until(connection, lambda _: connection.caught_up(), timeout_s, name)
        read = sorted({entry.member.topic for entry in entries if isinstance(entry, Report)})
        if topic not in read:
            known = f"it reads {', '.join(read)}" if read else "no reader of such a run has reported"
            raise ConfigError(f"run {run_id!r} of sync group {group!r} does not read topic {topic!r}: {known}.")
        connection.publish(change)
        _read_until(connection, lambda entries: change in entries, timeout_s, name)


def _create_topic(source: KafkaSyncTopic, topic: str) -> None:
    replicas = -1 if source.replication_factor is None else source.replication_factor
    new = {topic: {"num_partitions": 1, "replication_factor": replicas, "configs": dict(_TOPIC)}}
    admin, _ = connected(KafkaAdminClient, client_settings(source.kafka, KafkaAdminClient.DEFAULT_CONFIG, {}))
    try:
        admin.create_topics(new, wait_for_metadata=True)
    except client_errors.TopicAlreadyExistsError:
        pass  # another worker was first
    except client_errors.AuthorizationError as error:
        raise KafkaSecurityError(
            f"may not create topic {topic!r}: create it with one partition and cleanup.policy=compact,delete, or grant Create."
        ) from error
    finally:
        admin.close()


def _read_until(
    connection: KafkaCoordinator, enough: Callable[[Sequence[Entry]], bool], timeout_s: float, topic: str
) -> Sequence[Entry]:
    """What the log hands out until it is enough. Raises KafkaUnavailableError when that takes too long."""
    entries: list[Entry] = []
    deadline = SYSTEM_CLOCK.monotonic() + timeout_s
    while True:
        entries.extend(logged.entry for logged in connection.drain())
        if enough(entries):
            return entries
        if SYSTEM_CLOCK.monotonic() > deadline:
            raise KafkaUnavailableError(
                f"no answer through topic {topic!r} in {timeout_s:.0f} s: check the brokers, and that the topic's leader is there."
            )
        connection.wait(0.1)
