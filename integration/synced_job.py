"""A job of several topics in one sync group, and what its readers did, second by second, whatever process they were in.

Event time is Kafka's timestamp and grows by a fixed step an offset, so that an offset tells a reader's own watermark.
"""

import functools
import json
import os
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam
from kafka import KafkaProducer

from beam_unified import (
    Archive,
    Kafka,
    KafkaTimestamp,
    ReadProgress,
    ReadUnified,
    Record,
    Stop,
    SyncGroup,
    TopicPartition,
)
from beam_unified.archive.writer import write_flush
from beam_unified.stores import Fetched
from integration.services.kafka import KafkaBroker
from integration.unlimited_log import WriteLines

BEGIN_MS = 1_790_000_000_000
"""Event time of each first record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """A topic of the job.

    Attributes:
        partitions: How many.
        records: In each partition.
        step_ms: Event time between two records of a partition.
    """

    partitions: int
    records: int
    step_ms: int

    @property
    def end_ms(self) -> int:
        """Event time of the last record of each partition."""
        return BEGIN_MS + (self.records - 1) * self.step_ms


@dataclass(frozen=True, slots=True)
class Event:
    """A batch that was emitted, or a call in which a reader was held."""

    at: float
    pid: int
    tp: TopicPartition
    next_offset: int
    records: int
    held_by: str | None


class SyncedJob:
    """Topics on a broker, half of each in the archive only, and a place for what the readers of a job do."""

    def __init__(self, broker: KafkaBroker, archive: Archive, folder: Path, topics: Mapping[str, Topic]) -> None:
        self.broker, self.archive, self.folder = broker, archive, folder
        suffix = uuid.uuid4().hex[:6]
        self.names = {letter: f"{letter}-{suffix}" for letter in topics}
        self.topics = {self.names[letter]: topic for letter, topic in topics.items()}
        for name, topic in self.topics.items():
            self._fill(broker.create_topic(name, topic.partitions), topic)

    @property
    def kafka(self) -> Kafka:
        return Kafka(self.broker.bootstrap_servers)

    def _fill(self, name: str, topic: Topic) -> None:
        producer = KafkaProducer(bootstrap_servers=self.broker.bootstrap_servers, linger_ms=50, compression_type="lz4")
        for offset in range(topic.records):
            for partition in range(topic.partitions):
                at = BEGIN_MS + offset * topic.step_ms
                producer.send(name, b"%d" % offset, partition=partition, timestamp_ms=at)
        producer.close()
        kafka = self.kafka.connect()
        for partition in range(topic.partitions):
            tp, found, middle = TopicPartition(name, partition), list[Record](), topic.records // 2
            while not found or found[-1].offset < middle - 1:
                at = found[-1].offset + 1 if found else 0
                fetched = kafka.fetch(tp, at, max_records=middle - at, timeout_ms=500)
                assert isinstance(fetched, Fetched)
                found += [] if fetched.batch is None else fetched.batch.records()
            write_flush(self.archive, tp, found, start=0, stop=middle)
        kafka.close()
        self.broker.delete_records(name, dict.fromkeys(range(topic.partitions), topic.records // 2))

    def build(self, pipeline: beam.Pipeline, group: SyncGroup, options: Mapping[str, Mapping[str, Any]]) -> None:
        """Reads every topic up to its end, and writes down what comes out.

        All topics meet, as in a join: what is not connected Flink restarts on its own, beside the dead worker of the rest.
        """
        read = []
        for letter, name in self.names.items():
            stop = Stop.offsets(dict.fromkeys(range(self.topics[name].partitions), self.topics[name].records))
            read.append(
                pipeline
                | f"Read {letter}"
                >> ReadUnified(
                    name, self.kafka, self.archive, timestamp_fn=KafkaTimestamp(), output="record", sync=group, stop=stop,
                    on_progress=functools.partial(write_down, self.folder), **options.get(letter, {}),
                )
            )  # fmt: skip
        _ = (
            read
            | beam.Flatten()
            | "Row" >> beam.Map(lambda record: [record.topic, record.partition, record.offset])
            | beam.Reshuffle()
            | beam.ParDo(WriteLines(self.folder, "records"))
        )

    # -- what was seen

    def events(self) -> list[Event]:
        """Of all processes, by the clock."""
        found = (Event(at, pid, TopicPartition(*tp), *rest) for at, pid, tp, *rest in self._rows("events"))
        return sorted(found, key=lambda event: event.at)

    def members(self) -> tuple[TopicPartition, ...]:
        """All partitions of all topics."""
        return tuple(TopicPartition(name, n) for name, topic in self.topics.items() for n in range(topic.partitions))

    def own_ms(self, tp: TopicPartition, next_offset: int) -> float:
        """A reader's own watermark, from its next offset; one that has come to its end is past every instant."""
        topic = self.topics[tp.topic]
        if next_offset >= topic.records:
            return float("inf")
        return float("-inf") if next_offset == 0 else BEGIN_MS + (next_offset - 1) * topic.step_ms

    def batches(self) -> Iterator[tuple[Event, float, dict[TopicPartition, float]]]:
        """Every batch, its reader's own watermark before it, and everyone's just before it."""
        own = dict.fromkeys(self.members(), float("-inf"))
        for event in self.events():
            if event.records:
                start = event.next_offset - event.records
                yield event, self.own_ms(event.tp, start), dict(own)
                own[event.tp] = self.own_ms(event.tp, event.next_offset)

    def offsets(self) -> dict[TopicPartition, set[int]]:
        """What came out."""
        found: dict[TopicPartition, set[int]] = {}
        for topic, partition, offset in self._rows("records"):
            found.setdefault(TopicPartition(topic, partition), set()).add(offset)
        return found

    def _rows(self, kind: str) -> Iterator[list[Any]]:
        """Complete lines: the writers are still at it."""
        for path in self.folder.glob(f"{kind}-*.jsonl"):
            yield from (json.loads(line) for line in path.read_bytes().splitlines(True) if line.endswith(b"\n"))

    def expected(self) -> dict[TopicPartition, set[int]]:
        """What must."""
        return {tp: set(range(self.topics[tp.topic].records)) for tp in self.members()}


def write_down(folder: Path, progress: ReadProgress) -> None:
    """Observer of a read: a line in a file of this process."""
    tp = progress.topic, progress.partition
    row = [time.time(), os.getpid(), tp, progress.next_offset, progress.records, progress.held_by]
    with (folder / f"events-{os.getpid()}.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
