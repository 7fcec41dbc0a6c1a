"""The embedded broker: librdkafka's mock cluster, which comes with confluent-kafka's wheel. No service, no port to choose.

It speaks Kafka's protocol on localhost for as long as its producer lives, gives every topic four partitions, and keeps
about 5 MB a partition: it forgets older records by itself, as a real topic with a short retention does.
"""

from collections.abc import Iterable
from contextlib import closing

from confluent_kafka import KafkaError, Message, Producer

from beam_unified import Kafka, TopicPartition
from beam_unified.offsets import OffsetRange
from pipelines.flights.data import Flight

_FLUSH_TIMEOUT_S = 30.0
_POLL_EVERY = 1_000  # records between two looks at the delivery reports


class EmbeddedBroker:
    """A Kafka broker inside this process, and the ledger of what was written to it.

    Attributes:
        kafka: How to reach it, for `ReadUnified`.
        written: The ledger: per partition the offsets that the broker acknowledged, in that order.
    """

    def __init__(self, topic: str) -> None:
        """Starts it, with one topic."""
        self._topic = topic
        self._producer = Producer(
            {
                "bootstrap.servers": "unused",
                "test.mock.num.brokers": 1,
                "log_level": 4,  # it would announce the mock on stderr
                "partitioner": "murmur2_random",  # Java's: same key, same partition, whoever writes
                "linger.ms": 20,
                "queue.buffering.max.messages": 1_000_000,
            }
        )
        cluster = self._producer.list_topics(topic, timeout=_FLUSH_TIMEOUT_S)  # asking makes the topic
        (address,) = cluster.brokers.values()
        # The mock does not answer the newer questions by which kafka-python finds out a broker's version.
        self.kafka = Kafka(f"{address.host}:{address.port}", config={"api_version": (2, 0)})
        self.written: dict[int, list[int]] = {partition: [] for partition in sorted(cluster.topics[topic].partitions)}

    def produce(self, flights: Iterable[Flight]) -> None:
        """Writes flights; returns when every one of them is acknowledged and in the ledger."""
        for count, flight in enumerate(flights):
            self._producer.produce(self._topic, flight.value, key=flight.key, on_delivery=self._delivered)
            if count % _POLL_EVERY == 0:
                self._producer.poll(0)
        if left := self._producer.flush(_FLUSH_TIMEOUT_S):
            raise RuntimeError(f"{left} records were not acknowledged by the embedded broker")

    def held(self) -> dict[int, OffsetRange]:
        """The offsets that it has not forgotten yet, per partition."""
        with closing(self.kafka.connect()) as log:
            return {partition: log.bounds(TopicPartition(self._topic, partition)) for partition in self.written}

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            raise RuntimeError(f"the embedded broker refused a record: {error}")
        self.written[message.partition()].append(message.offset())
