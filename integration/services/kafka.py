"""A Kafka broker of one node (KRaft, no ZooKeeper), and what tests ask of one: topics, and moving the log's start.

Called by the command line and by the `kafka` fixture.
"""

import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

from kafka import KafkaAdminClient, TopicPartition

from integration.services import maven
from integration.services.java import java
from integration.services.process import Run, free_port
from integration.services.tools import run_tool

_CLUSTER_ID = "YmVhbS11bmlmaWVkLXRlcw"  # any 16 bytes in base64

# Why each is not the default: one node; topics are made on purpose; tests must not wait for groups, segments or
# retention; small buffers for a small heap.
_SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "auto.create.topics.enable": "false",
    "default.replication.factor": "1",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "2",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "2",
    "min.insync.replicas": "1",
    "group.initial.rebalance.delay.ms": "0",
    "log.retention.check.interval.ms": "1000",
    "log.segment.delete.delay.ms": "1000",
    "log.cleaner.backoff.ms": "1000",
    "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),
    "log.initial.task.delay.ms": "1000",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaBroker:
    """A running broker.

    Args:
        run: Where it lives.
        bootstrap_servers: "host:port".
    """

    name: ClassVar[str] = "kafka"

    run: Run
    bootstrap_servers: str

    @classmethod
    def start(cls, run: Run) -> Self:
        """Format a new log folder and start a broker on it."""
        port = free_port()
        cls._format(run, {"PLAINTEXT": port}, {})
        broker = cls(run=run, bootstrap_servers=f"127.0.0.1:{port}")
        broker.start_again()
        return broker

    @classmethod
    def _format(cls, run: Run, ports: Mapping[str, int], settings: Mapping[str, str], *arguments: str) -> None:
        """Write the settings of a broker, and its empty log.

        Args:
            run: Where it will live.
            ports: Of its listeners.
            settings: Those that are not the same for all brokers here.
            *arguments: More for Kafka's own tool.
        """
        data = run.path(cls.name)
        controller_port = free_port()
        listeners = ",".join(
            f"{name}://127.0.0.1:{port}" for name, port in [*ports.items(), ("CONTROLLER", controller_port)]
        )
        places = {
            "listeners": listeners,
            "advertised.listeners": listeners,
            "controller.quorum.bootstrap.servers": f"127.0.0.1:{controller_port}",
            "log.dirs": str(data / "log"),
        }
        properties = data / "server.properties"
        lines = (f"{key}={value}\n" for key, value in {**_SETTINGS, **places, **settings}.items())
        properties.write_text("".join(lines), encoding="utf-8")
        format_log = ("format", "--standalone", "--cluster-id", _CLUSTER_ID, "--config", str(properties), *arguments)
        tool = "kafka.tools.StorageTool"
        temporary = run.path(cls.name, "tmp")
        class_path = maven.class_path("kafka")
        run_tool(java(class_path, tool, *format_log, heap="128m", temporary=temporary, quick_start=True))

    def start_again(self) -> None:
        """Start it on the folder and the port that it had, after `kill`."""
        properties, temporary = self.run.path(self.name) / "server.properties", self.run.path(self.name, "tmp")
        command = java(maven.class_path("kafka"), "kafka.Kafka", str(properties), heap="512m", temporary=temporary)
        self.run.spawn(self.name, command)
        self.run.wait_until("answer of the broker", self.ask, name=self.name)

    def kill(self) -> None:
        """As a power cut would: nothing is written any more."""
        self.run.stop(self.name, grace_s=0)

    def log_folder(self, topic: str, partition: int = 0) -> Path:
        """Where the segments of a partition lie."""
        return self.run.path(self.name) / "log" / f"{topic}-{partition}"

    def ask(self) -> None:
        """Raises unless the broker answers with its own metadata."""
        # The client leaks a socket per refused connection, so knock without it.
        host, port = self.bootstrap_servers.split(":")
        socket.create_connection((host, int(port)), timeout=1).close()
        with self.admin(bootstrap_timeout_ms=1_000, request_timeout_ms=2_000) as admin:
            admin.list_topics()

    @contextmanager
    def admin(self, **config: object) -> Iterator[KafkaAdminClient]:
        """A client for what has no helper here."""
        client = KafkaAdminClient(bootstrap_servers=self.bootstrap_servers, **config)
        try:
            yield client
        finally:
            client.close()

    def create_topic(self, topic: str, partitions: int = 1, config: Mapping[str, str] | None = None) -> str:
        """Create a topic and wait until it has leaders.

        It keeps records for ever unless `config` says otherwise: with Kafka's default, records older than a week by
        their own timestamps are deleted at once, and tests write history.
        """
        settings = {"retention.ms": "-1", **(config or {})}
        with self.admin() as admin:
            admin.create_topics({topic: {"num_partitions": partitions, "replication_factor": 1, "configs": settings}},
                                wait_for_metadata=True)  # fmt: skip
        return topic

    def delete_topic(self, topic: str) -> None:
        """Delete a topic."""
        with self.admin() as admin:
            admin.delete_topics([topic])

    def delete_records(self, topic: str, first_kept: Mapping[int, int]) -> None:
        """Move the log's start, as retention would: per partition, the offset of the first record that stays."""
        with self.admin() as admin:
            admin.delete_records({TopicPartition(topic, partition): offset for partition, offset in first_kept.items()})
