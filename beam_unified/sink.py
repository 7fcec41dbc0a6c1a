"""`WriteKafka`: a PCollection to a topic, at least once, without Java."""

import uuid
from collections import Counter
from collections.abc import Mapping
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import PCollection, PDone

from beam_unified import metrics
from beam_unified.errors import BadRecordError, ConfigError, UnifiedLogError
from beam_unified.kafka.client import Kafka
from beam_unified.kafka.producers import WRITERS, KafkaWriter, Partitioner, WriteSettings
from beam_unified.records import KafkaRecord, Record
from beam_unified.source.chunks import Decoded


class WriteKafka(beam.PTransform):
    """Writes records to a topic: at least once, in order per key within a bundle and within a worker's session.

    Every record of a bundle is acknowledged before the bundle ends; where one is not, the bundle fails and the runner writes it
    again, so duplicates are possible after a failure and losses are not. The client's own retries neither double nor reorder
    (idempotent producer).

    Elements: `KafkaRecord`, `Record` or `Decoded` (key, value, headers and timestamp are kept, the partition follows from the key),
    or (key, value) pairs of bytes or None.

    Traps: a runner that tries a bundle again may also interleave it with what it wrote before. Pairs get the time of writing as
    Kafka's timestamp, not their event time: make `KafkaRecord`s for that. While the brokers are away a bundle waits, and with
    it a checkpoint, up to `delivery_timeout_ms` (2 minutes).

    Args:
        topic: Where to; None where every element is a `KafkaRecord` that names its own.
        kafka: The cluster. Security settings are shared with readers.
        config: More settings of kafka-python's `KafkaProducer`, by Kafka's names: `acks`, `compression_type`, `linger_ms`, ...
            Values may be `Secret`s. Unless told otherwise: acks "all", idempotent, lz4. With acks 1, retries 0, or more than 5
            requests in flight it is not idempotent: the client's own retries may double and reorder records.
        partitioner: Function of key and partition numbers; None is Kafka's own (murmur2, as Java's).
        max_in_flight_bytes: A bundle waits while more than this is not acknowledged. Bounds the memory of each bundle.
        validate: Ask for the topic while the pipeline is built.

    Raises:
        ConfigError: an option that cannot work.
        StoreError: with `validate`, an unknown topic, no broker, wrong credentials.
    """

    def __init__(
        self,
        topic: str | None,
        kafka: Kafka,
        *,
        config: Mapping[str, object] | None = None,
        partitioner: Partitioner | None = None,
        max_in_flight_bytes: int = 32 * 1024 * 1024,
        validate: bool = True,
    ) -> None:
        super().__init__()
        if topic is not None and not topic:
            raise ConfigError(
                f"topic must be the name of a topic, or None where records name their own, got {topic!r}."
            )
        if not isinstance(kafka, Kafka):
            raise ConfigError(f"kafka must be Kafka('host:9092'), got {kafka!r}.")
        if partitioner is not None and not callable(partitioner):
            raise ConfigError(f"partitioner must be a function (key, partitions) -> partition, got {partitioner!r}.")
        if max_in_flight_bytes < 1:
            raise ConfigError(
                f"max_in_flight_bytes must be a number of bytes, at least 1, got {max_in_flight_bytes!r}."
            )
        self._topic, self._validate = topic, validate
        self._settings = WriteSettings(
            kafka=kafka, config=config or {}, partitioner=partitioner, max_in_flight_bytes=max_in_flight_bytes
        )

    def expand(self, elements: PCollection) -> PDone:
        """One step; there is no output."""
        if self._validate and self._topic is not None:
            log = self._settings.kafka.connect()
            try:
                log.partitions(self._topic)
            finally:
                log.close()
        _ = elements | "Write" >> beam.ParDo(_Write(self._topic, self._settings))
        return PDone(elements.pipeline)

    def display_data(self) -> dict[str, object]:
        """What runners show. No addresses, no settings: those may hold secrets."""
        return {"topic": str(self._topic)}


class _Write(beam.DoFn):
    """Writes a bundle and waits for it."""

    def __init__(self, topic: str | None, settings: WriteSettings) -> None:
        self._topic, self._settings = topic, settings
        self._key = f"{topic}-{uuid.uuid4()}"
        self._writer: KafkaWriter | None = None
        self._written, self._size = Counter[str](), Counter[str]()  # by topic, in this bundle

    def setup(self) -> None:
        WRITERS.enter(self._key)

    def start_bundle(self) -> None:
        self._drop()  # a bundle that failed elsewhere did not get to its end
        self._written.clear()
        self._size.clear()

    def process(self, element: Any) -> None:
        record = as_kafka_record(element)
        topic = record.topic or self._topic
        if topic is None:
            raise BadRecordError(
                f"a record with key {record.key!r:.80} names no topic, and WriteKafka has none: give one of them."
            )
        if self._writer is None:
            self._writer = WRITERS.lease(self._key, self._settings)
        try:
            self._size[topic] += self._writer.write(topic, record)
        except UnifiedLogError:
            self._drop()
            raise
        self._written[topic] += 1

    def finish_bundle(self) -> None:
        if self._writer is None:
            return
        try:
            self._writer.flush()
        except UnifiedLogError:
            self._drop()
            raise
        WRITERS.give_back(self._key, self._writer)
        self._writer = None
        for topic, records in self._written.items():
            metrics.RECORDS_WRITTEN.of(topic).inc(records)
            metrics.BYTES_WRITTEN.of(topic).inc(self._size[topic])

    def teardown(self) -> None:
        self._drop()
        WRITERS.leave(self._key)

    def _drop(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_writer": None}


def as_kafka_record(element: Any) -> KafkaRecord:
    """What is written of an element. Raises BadRecordError for what `WriteKafka` does not know."""
    match element:
        case KafkaRecord():
            return element
        case Decoded():
            return as_kafka_record(element.record)
        case Record():
            return KafkaRecord(element.value, element.key, element.headers, element.timestamp)
        case (key, value):
            return KafkaRecord(value, key)
        case _:
            raise BadRecordError(
                f"WriteKafka writes KafkaRecord, Record or (key, value), got {type(element).__name__}: map to one of them first."
            )
