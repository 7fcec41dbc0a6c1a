"""Writes both topics: history through Kafka into the archive, which Kafka then forgets; the tail stays in Kafka only."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import groupby

from confluent_kafka import KafkaError, Message, Producer

from beam_unified import Archive, Kafka, TopicPartition
from integration.services.kafka import KafkaBroker
from pipelines.flights.archiver import Archiver
from pipelines.weather.data import Data, Event, Topic, batch_join

FLIGHTS, WEATHER = "flights", "weather"
PARTITIONS = {FLIGHTS: 4, WEATHER: 1}

FlightId = tuple[int, int]
"""Partition and offset of a flight."""

_FLUSH_S = 28 * 86_400  # event time in a flush of the archive
_FLUSH_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Both topics as they were written.

    Attributes:
        kafka: Their tails.
        archive: Their history.
        suffix: Of the names of the topics.
        stops: Topic -> partition -> offset after the last record.
        records: Topic -> how many records it has.
        expected: Every flight -> whether it has weather, by a batch join of the same range.
        launch_ms: Where history ends.
    """

    kafka: Kafka
    archive: Archive
    suffix: str
    stops: Mapping[str, Mapping[int, int]]
    records: Mapping[str, int]
    expected: Mapping[FlightId, bool]
    launch_ms: int

    def name(self, topic: str) -> str:
        """The name of a topic on the broker."""
        return topic + self.suffix

    @property
    def batch_matches(self) -> int:
        """Flights with weather, by the batch join."""
        return sum(self.expected.values())


def write(data: Data, broker: KafkaBroker, archive: Archive, *, suffix: str = "") -> World:
    """Writes everything. Topics of these names must not exist yet."""
    kafka = Kafka(broker.bootstrap_servers)
    joined = batch_join(
        (flight.place for flight in [*data.flights.history, *data.flights.tail]),
        (seen.place for seen in [*data.weather.history, *data.weather.tail]),
    )
    expected: dict[FlightId, bool] = {}

    def acknowledged(index: int, tp: TopicPartition, offset: int) -> None:
        if tp.topic == FLIGHTS + suffix:
            expected[tp.partition, offset] = joined[index]

    topics = {FLIGHTS: data.flights, WEATHER: data.weather}
    for topic, events in topics.items():
        name = broker.create_topic(topic + suffix, PARTITIONS[topic])
        _write_topic(name, events, acknowledged, broker=broker, kafka=kafka, archive=archive)
    with closing(kafka.connect()) as log:
        stops = {
            topic: {n: log.bounds(TopicPartition(topic + suffix, n)).stop for n in range(PARTITIONS[topic])}
            for topic in topics
        }
    return World(
        kafka=kafka,
        archive=archive,
        suffix=suffix,
        stops=stops,
        records={topic: len(events.history) + len(events.tail) for topic, events in topics.items()},
        expected=expected,
        launch_ms=data.launch_ms,
    )


Acknowledged = Callable[[int, TopicPartition, int], None]
"""Told of each record: its index in the topic, and where it was written."""


def _write_topic(
    name: str, topic: Topic, acknowledged: Acknowledged, *, broker: KafkaBroker, kafka: Kafka, archive: Archive
) -> None:
    producer = Producer(
        {
            "bootstrap.servers": broker.bootstrap_servers,
            "partitioner": "murmur2_random",  # Java's: same key, same partition, whoever writes
            "linger.ms": 20,
            "compression.type": "lz4",
            "queue.buffering.max.messages": 1_000_000,
        }
    )
    written = 0
    with closing(Archiver(name, kafka, archive)) as archiver:
        for _, flush in groupby(topic.history, key=lambda event: event.at_ms // 1_000 // _FLUSH_S):
            written += _produce(producer, name, flush, written, acknowledged)
            archiver.run_once()
        broker.delete_records(name, {partition: end for partition, end in archiver.archived.items() if end})
    _produce(producer, name, topic.tail, written, acknowledged)


def _produce(producer: Producer, name: str, events: Iterable[Event], first: int, acknowledged: Acknowledged) -> int:
    count = 0
    for count, event in enumerate(events, 1):
        told = partial(_delivered, acknowledged, first + count - 1)
        producer.produce(name, event.value, key=event.key, on_delivery=told)
        if count % 1_000 == 0:
            producer.poll(0)
    if left := producer.flush(_FLUSH_TIMEOUT_S):
        raise RuntimeError(f"{name}: {left} records were not acknowledged")
    return count


def _delivered(acknowledged: Acknowledged, index: int, error: KafkaError | None, message: Message) -> None:
    if error is not None:
        raise RuntimeError(f"the broker refused a record: {error}")
    acknowledged(index, TopicPartition(message.topic(), message.partition()), message.offset())
