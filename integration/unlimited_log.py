"""The scenario that every runner must get right, and the producer's ledger against which it is checked.

A topic whose first part is only in the archive (archived to S3, then deleted from Kafka by retention) and whose rest is
only in Kafka. Events are out of order within a bound, as JSON `{"n": .., "time": ..}`; event-time windows follow the
read. Kafka's timestamps are years away from event time, so nothing can work by taking one for the other.
"""

import itertools
import json
import os
import random
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Literal

import apache_beam as beam
from apache_beam.transforms.userstate import CombiningValueStateSpec
from apache_beam.transforms.window import FixedWindows, IntervalWindow
from kafka import KafkaProducer

from beam_unified import Archive, JsonField, Kafka, ReadUnified, Record, StopPosition, TopicPartition
from beam_unified.archive.writer import write_flush
from beam_unified.kafka.clients import Client
from beam_unified.stores import Fetched
from integration.services.kafka import KafkaBroker

EVENT_TIME_START_MS = 1_370_000_000_000  # 2013: far from the clock, as replays are
KAFKA_TIME_START_MS = 1_790_000_000_000
STEP_MS = 100
OUT_OF_ORDERNESS = timedelta(seconds=5)
WINDOW_S = 10

CLIENTS: tuple[Client, ...] = ("kafka-python", "confluent")
"""For what depends on who fetches."""

WindowKey = tuple[int, int]
"""(partition, start of the window in seconds)."""


@dataclass(slots=True)
class Ledger:
    """What the producer wrote: per partition, offset -> event time in milliseconds."""

    times: dict[int, dict[int, int]] = field(default_factory=lambda: defaultdict(dict))

    def offsets(self) -> dict[int, list[int]]:
        """Offsets per partition, ascending."""
        return {partition: sorted(times) for partition, times in self.times.items()}

    def windows(self, window_s: int = WINDOW_S) -> dict[WindowKey, list[int]]:
        """Offsets per window, ascending."""
        found: dict[WindowKey, list[int]] = defaultdict(list)
        for partition, times in self.times.items():
            for offset in sorted(times):
                second = times[offset] // 1_000
                found[partition, second - second % window_s].append(offset)
        return dict(found)


class Scenario:
    """Builds and feeds one topic."""

    def __init__(
        self,
        broker: KafkaBroker,
        archive: Archive,
        *,
        partitions: int,
        out_of_orderness: timedelta = OUT_OF_ORDERNESS,
        seed: int = 7,
        client: Client = "kafka-python",
    ) -> None:
        self.broker = broker
        self.client = client
        self.archive = archive
        self.partitions = partitions
        self.out_of_orderness = out_of_orderness
        self.topic = broker.create_topic(f"pins-{uuid.uuid4().hex[:8]}", partitions)
        self.ledger = Ledger()
        self._random = random.Random(seed)
        self._counts = itertools.count()
        self._produced = Counter[int]()

    @property
    def kafka(self) -> Kafka:
        return Kafka(self.broker.bootstrap_servers, client=self.client)

    def produce(self, records: int, *, partitions: Iterable[int] | None = None, jump_ms: int = 0) -> None:
        """Writes so many records to each partition. `jump_ms` moves event time on: it closes the windows behind it."""
        producer = KafkaProducer(bootstrap_servers=self.broker.bootstrap_servers, linger_ms=10, compression_type="lz4")
        disorder_ms = max(1, self.out_of_orderness // timedelta(milliseconds=1))
        pending = []
        for _ in range(records):
            for partition in range(self.partitions) if partitions is None else partitions:
                n = self._produced[partition]
                self._produced[partition] += 1
                event_ms = EVENT_TIME_START_MS + n * STEP_MS + jump_ms - self._random.randrange(disorder_ms)
                value = json.dumps({"n": n, "time": event_ms}).encode()
                sent = producer.send(
                    self.topic,
                    value,
                    key=b"%d" % n,
                    partition=partition,
                    timestamp_ms=KAFKA_TIME_START_MS + n * STEP_MS,
                )
                pending.append((partition, event_ms, sent))
        producer.flush()
        for partition, event_ms, sent in pending:
            self.ledger.times[partition][sent.get(timeout=10).offset] = event_ms
        producer.close()

    def archive_and_expire(self, *, flushes: int, keep: int = 0) -> None:
        """Archives everything that Kafka holds, in so many flushes a partition, then deletes it from Kafka.

        Args:
            flushes: Flushes a partition.
            keep: So many of the newest archived offsets stay in Kafka too: an overlap, as in real life.
        """
        first_kept: dict[int, int] = {}
        kafka = self.kafka.connect()
        for partition in range(self.partitions):
            tp = TopicPartition(self.topic, partition)
            held = kafka.bounds(tp)
            records: list[Record] = []
            offset = held.start
            while offset < held.stop:
                fetched = kafka.fetch(tp, offset, max_records=10_000, timeout_ms=500)
                assert isinstance(fetched, Fetched)
                offset, batch = fetched.next_offset, fetched.batch
                records += [] if batch is None else batch.records()
            size = (held.stop - held.start) // flushes
            edges = [*(held.start + size * i for i in range(flushes)), held.stop]
            for start, stop in itertools.pairwise(edges):
                write_flush(self.archive, tp, [r for r in records if start <= r.offset < stop], start=start, stop=stop)
            first_kept[partition] = held.stop - keep
        kafka.close()
        self.broker.delete_records(self.topic, first_kept)

    def stop_offsets(self) -> dict[int, int]:
        """One past the last offset of each partition."""
        return {partition: max(offsets) + 1 for partition, offsets in self.ledger.offsets().items()}

    def read(
        self, *, stop: StopPosition | None = None, ordered: bool = True, output: Literal["record", "arrow"] = "record"
    ) -> ReadUnified:
        """The transform under test."""
        return ReadUnified(
            self.topic,
            self.kafka,
            self.archive,
            timestamp_fn=JsonField("time", unit="ms"),
            max_out_of_orderness=self.out_of_orderness,
            stop=stop,
            output=output,
            ordered=ordered,
        )


def half_forgotten(
    broker: KafkaBroker,
    records: Mapping[tuple[int, int], tuple[bytes | None, bytes, int]],
    kept_from: Mapping[int, int],
) -> str:
    """A new topic of records by (partition, offset): key, value, timestamp; Kafka has forgotten what is below `kept_from`."""
    topic = broker.create_topic(f"pins-{uuid.uuid4().hex[:8]}", 1 + max(partition for partition, _ in records))
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap_servers)
    for (partition, _), (key, value, timestamp_ms) in sorted(records.items()):
        producer.send(topic, value, key, partition=partition, timestamp_ms=timestamp_ms)
    producer.close()
    broker.delete_records(topic, dict(kept_from))
    return topic


class Results:
    """What a pipeline wrote, wherever its workers ran: files of lines in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def lines(self, kind: str) -> Iterator[list[int]]:
        """Complete lines, file by file, in the order written."""
        for path in sorted(self.folder.glob(f"{kind}-*.jsonl")):
            for line in path.read_bytes().splitlines(keepends=True):
                if line.endswith(b"\n"):
                    yield json.loads(line)

    def windows(self) -> dict[WindowKey, list[list[int]]]:
        """Offsets of every firing of every window. After a failure a window may fire again, with the same content."""
        found: dict[WindowKey, list[list[int]]] = defaultdict(list)
        for partition, start, *offsets in self.lines("windows"):
            found[partition, start].append(offsets)
        return dict(found)

    def read_order(self) -> dict[int, list[int]]:
        """Offsets per partition, in the order in which they were emitted."""
        found: dict[int, list[int]] = defaultdict(list)
        for partition, offset, _ in self.lines("records"):
            found[partition].append(offset)
        return dict(found)

    def progress(self) -> dict[bool, int]:
        """How many records have been read so far, from the archive (False) and from Kafka (True); repeats included."""
        return Counter(bool(from_kafka) for _, _, from_kafka in self.lines("records"))

    def problems(self, expected: Mapping[WindowKey, list[int]]) -> list[str]:
        """Every window of the ledger that is missing, short, doubled or has too much, in words."""
        fired = self.windows()
        found = [f"window {key} is missing" for key in expected if key not in fired]
        for key, offsets in expected.items():
            for firing in fired.get(key, []):
                if firing != offsets:
                    lost, more = (
                        sorted(set(offsets) - set(firing)),
                        sorted((Counter(firing) - Counter(offsets)).elements()),
                    )
                    found.append(f"window {key}: lost {lost[:5]} ({len(lost)}), too many {more[:5]} ({len(more)})")
        return found


class WriteLines(beam.DoFn):
    """Appends each element as a JSON line to a file of this instance's own."""

    def __init__(self, folder: Path, kind: str) -> None:
        self._folder, self._kind = folder, kind

    def setup(self):
        self._path = self._folder / f"{self._kind}-{os.getpid()}-{uuid.uuid4().hex}.jsonl"

    def start_bundle(self):
        self._lines = []

    def process(self, element):
        self._lines.append(json.dumps(element))

    def finish_bundle(self):
        if self._lines:
            with self._path.open("a") as file:
                file.write("".join(f"{line}\n" for line in self._lines))


def window_and_write(records: beam.PCollection, folder: Path, window_s: int = WINDOW_S) -> None:
    """Event-time windows per partition over what was read; both are written down."""
    _ = (
        records
        | "Order" >> beam.Map(lambda r: [r.partition, r.offset, int(r.store == "kafka")])
        | "Write order" >> beam.ParDo(WriteLines(folder, "records"))
    )
    write_windows(records | "Key" >> beam.Map(lambda r: (r.partition, r.offset)), folder, window_s)


def write_windows(keyed: beam.PCollection, folder: Path, window_s: int = WINDOW_S) -> None:
    """(partition, offset) -> the sorted offsets of every window."""
    _ = (
        keyed
        | "Window" >> beam.WindowInto(FixedWindows(window_s))
        | "Group" >> beam.GroupByKey()
        | "Row" >> beam.ParDo(_WindowRow())
        | "Write windows" >> beam.ParDo(WriteLines(folder, "windows"))
    )


class SlowDown(beam.DoFn):
    """Takes its time over the records of some partitions, as a slow lookup would."""

    def __init__(self, seconds: float, partitions: Iterable[int] | None = None) -> None:
        self._seconds = seconds
        self._partitions = None if partitions is None else frozenset(partitions)

    def process(self, record):
        if self._partitions is None or record.partition in self._partitions:
            time.sleep(self._seconds)
        yield record


class Stall(beam.DoFn):
    """Stands still now and then, for longer than Prism waits before it asks for a split."""

    def __init__(self, seconds: float, every: int) -> None:
        self._seconds, self._every = seconds, every

    def process(self, record):
        if record.offset % self._every == 0:
            time.sleep(self._seconds)
        yield record


class CountInState(beam.DoFn):
    """Passes everything on, and counts it in state: a stateful stage between the source and the windows."""

    COUNT = CombiningValueStateSpec("count", sum)

    def process(self, element, count=beam.DoFn.StateParam(COUNT)):
        count.add(1)
        yield element


class _WindowRow(beam.DoFn):
    def process(self, element, window: IntervalWindow = beam.DoFn.WindowParam):
        partition, offsets = element
        yield [partition, int(window.start), *sorted(offsets)]
