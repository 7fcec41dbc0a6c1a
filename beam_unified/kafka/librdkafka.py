"""Fetching over librdkafka, by confluent-kafka: `Kafka(client="confluent")`. The only module that consumes through it.

librdkafka fetches, decompresses and decodes ahead, in threads of its own, and does nothing else here. Every question (partitions,
bounds, instants, the topic's id, whether the log ends here) goes to kafka-python, and so does whatever librdkafka cannot go on
with: asked for the same offset, kafka-python says whether it is out of range, truncated, forbidden. So both clients give one
set of answers.

Traps of librdkafka that are met here: `consume` waits until it has all the records it may take; the position is the last
record's, and only the event of the partition's end tells how far markers and aborted records reach behind it; an error may be
followed by records that lie behind what could not be read; a position that is assigned, not sought, is never validated.

Needs `pip install beam-unified[confluent]`.
"""

import contextlib
import ctypes
import logging
import os
import weakref
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, libversion
from confluent_kafka import TopicPartition as ClientTopicPartition

from beam_unified.clock import SYSTEM_CLOCK, Clock
from beam_unified.errors import ConfigError, KafkaSecurityError, KafkaUnavailableError, StoreError
from beam_unified.kafka.client import ConnectedKafka, Kafka
from beam_unified.kafka.librdkafka_settings import FETCH_BYTES, translated
from beam_unified.kafka.messages import Reading
from beam_unified.offsets import OffsetRange, TopicPartition
from beam_unified.stores import Fetched, OutOfRange

_OLDEST = 0x02100000  # 2.16.0, what is tested: whether a truncated log is noticed depends on it
if libversion()[1] < _OLDEST:
    raise ImportError(f"librdkafka {libversion()[0]} is older than 2.16: pip install 'beam-unified[confluent]'")

_LOGGER = logging.getLogger(__name__)

_SEEK_AGAIN_S = (0.005, 0.02, 0.1, 0.3)
_METADATA_S = 0.5  # `process` waits for it
_STALL_S = 30.0  # beyond librdkafka's own waits before it connects anew, of at most 10 s
_REFUSALS = {KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED, KafkaError._SSL}  # noqa: SLF001 - public names
_AT_ONCE = 1_024  # messages that are alive at a time; see `messages`


class ConnectedConfluent:
    """Reads one partition at a time, by offset. Implements `stores.KafkaLog`. Not thread safe."""

    def __init__(self, kafka: Kafka, clock: Clock = SYSTEM_CLOCK) -> None:
        """Connects, both clients; see `Kafka.connect`."""
        self._servers = str(kafka.bootstrap_servers)
        self._asked = ConnectedKafka(kafka, clock)  # the first: it says within seconds what is wrong
        self._assigned: tuple[TopicPartition, ClientTopicPartition] | None = None
        self._position: int | None = None
        self._leader_epoch: int | None = None
        self._noted = _Noted()
        try:
            self._consumer: Consumer | None = _consumer(kafka, self._servers, self._noted)
        except BaseException:
            self._asked.close()
            raise
        _living.add(self)

    def partitions(self, topic: str) -> tuple[int, ...]:
        """Partition numbers, ascending."""
        return self._asked.partitions(topic)

    def topics(self) -> tuple[str, ...]:
        """Topics these credentials may see, without Kafka's internal ones."""
        return self._asked.topics()

    def topic_id(self, topic: str) -> str | None:
        """The topic's id, as of the other client's last metadata."""
        return self._asked.topic_id(topic)

    def bounds(self, tp: TopicPartition) -> OffsetRange:
        """First offset held, and the end offset under the isolation level."""
        return self._asked.bounds(tp)

    def offset_at(self, tp: TopicPartition, timestamp_ms: int) -> int | None:
        """First offset with a timestamp >= `timestamp_ms`."""
        return self._asked.offset_at(tp, timestamp_ms)

    def fetch(
        self, tp: TopicPartition, offset: int, *, max_records: int, timeout_ms: int, leader_epoch: int | None = None
    ) -> Fetched | OutOfRange:
        """Records from `offset` on; see `stores.KafkaLog.fetch`."""
        consumer = self._living_consumer()
        try:
            client_tp = self._move_to(consumer, tp, offset, leader_epoch)
            read = _consumed(consumer, max_records, timeout_ms)
        except KafkaException as error:
            read = Reading()
            read.trouble = error.args[0]
        position = offset if read.position is None else read.position
        self._position = position if read.trouble is None else None
        if read.trouble is not None:
            _LOGGER.debug("%s at offset %s: %s", tp, position, read.trouble)
            if position == offset:  # nothing came before it
                return self._asked.fetch(
                    tp, offset, max_records=max_records, timeout_ms=timeout_ms, leader_epoch=leader_epoch
                )
        self._leader_epoch = self._leader_epoch if read.leader_epoch is None else read.leader_epoch
        _, high_watermark = consumer.get_watermark_offsets(client_tp, cached=True)
        fetched = self._asked.ends.fetched(
            tp,
            offset,
            batch=read.batch(tp),
            position=position,
            high_watermark=high_watermark if high_watermark >= 0 else None,
            leader_epoch=self._leader_epoch,
        )
        if fetched.batch is not None:
            self._noted.error = None
        stalled_s = self._asked.ends.behind_s()
        if stalled_s < _STALL_S:
            return fetched
        other = self._asked.fetch(tp, offset, max_records=max_records, timeout_ms=timeout_ms, leader_epoch=leader_epoch)
        if isinstance(other, Fetched) and other.next_offset != offset:
            raise self._stalled(tp, offset, stalled_s)
        return other

    def close(self) -> None:
        """Closes both connections, and ends librdkafka's threads. Idempotent."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.close()
        self._asked.close()

    def abandon(self) -> None:
        """In a forked child: librdkafka's threads are not there, and to close would be to wait for them, for ever."""
        if self._consumer is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._consumer))  # nor may the interpreter, at its end
            self._consumer = None

    def _living_consumer(self) -> Consumer:
        if self._consumer is None:
            raise KafkaUnavailableError(
                f"the connection to {self._servers} was closed, or made before this process was forked: connect anew."
            )
        return self._consumer

    def _stalled(self, tp: TopicPartition, offset: int, seconds: float) -> StoreError:
        error = self._noted.error
        kind = KafkaSecurityError if error is not None and error.code() in _REFUSALS else KafkaUnavailableError
        return kind(
            f"{tp} at offset {offset}: kafka-python gets what is there from {self._servers}, librdkafka has got nothing for "
            f"{seconds:.0f} s ({'no reason given' if error is None else error.name()}; its log, logger {__name__!r}, says more). "
            "Compare the security settings with what this listener wants, or say Kafka(client='kafka-python')."
        )

    def _move_to(
        self, consumer: Consumer, tp: TopicPartition, offset: int, leader_epoch: int | None
    ) -> ClientTopicPartition:
        if self._assigned is None or self._assigned[0] != tp:
            self._asked.follow(tp)
            self._position = None
            with contextlib.suppress(KafkaException):  # asked now: by itself it may look for the leader a second later
                consumer.list_topics(tp.topic, _METADATA_S)
        elif self._position == offset:
            return self._assigned[1]
        client_tp = ClientTopicPartition(tp.topic, tp.partition, offset)
        self._position = None  # should the next lines fail
        consumer.assign([client_tp])
        if leader_epoch is not None:
            # With an epoch the leader is asked, before the first fetch, where that epoch ended (KIP-320); by `seek` alone,
            # for what is assigned is fetched unasked (librdkafka 2.16).
            _seek(consumer, ClientTopicPartition(tp.topic, tp.partition, offset, leader_epoch=leader_epoch))
        self._assigned, self._position, self._leader_epoch = (tp, client_tp), offset, leader_epoch
        return client_tp


class _Noted:
    """What librdkafka says that is about no partition: a refusal rather than that all brokers are down, which follows it.

    Attributes:
        error: Since the last record; None where it said nothing.
    """

    def __init__(self) -> None:
        self.error: KafkaError | None = None

    def __call__(self, error: KafkaError) -> None:
        _LOGGER.debug("not about a partition: %s", error)
        if self.error is None or self.error.code() not in _REFUSALS:
            self.error = error


def _seek(consumer: Consumer, client_tp: ClientTopicPartition) -> None:
    """Seeks in what has just been assigned, which librdkafka takes up in a thread of its own."""
    for wait_s in _SEEK_AGAIN_S:
        try:
            consumer.seek(client_tp)
        except KafkaException as error:
            if error.args[0].code() != KafkaError._STATE:  # noqa: SLF001 - that is its public name
                raise
            consumer.consume(
                1, wait_s
            )  # a record would say that it has been taken up; the seek drops what was fetched so far
        else:
            return
    consumer.seek(client_tp)


def _consumed(consumer: Consumer, max_records: int, timeout_ms: int) -> Reading:
    """What is there now. Only the first is waited for: `consume` with a timeout waits until it has all it may take."""
    reading, left = Reading(), max_records
    messages = consumer.consume(min(left, _AT_ONCE), 0) or consumer.consume(1, timeout_ms / 1_000)
    while messages:
        reading.take(messages)
        left -= len(messages)
        if left <= 0 or reading.trouble is not None:
            break
        del messages  # before there are others
        messages = consumer.consume(min(left, _AT_ONCE), 0)
    return reading


def _consumer(kafka: Kafka, servers: str, noted: _Noted) -> Consumer:
    settings = translated(kafka.fetch_settings(max_partition_fetch_bytes=FETCH_BYTES), servers)
    try:
        return Consumer({**settings, "error_cb": noted}, logger=_LOGGER)
    except (KafkaException, SystemError, TypeError, ValueError) as error:
        found = (
            error.__cause__ if isinstance(error, SystemError) else error
        )  # it calls `noted` while it raises another error
        said = found.args[0].str() if isinstance(found, KafkaException) else type(error).__name__
        raise ConfigError(f"librdkafka cannot be set up for {servers}: {said}") from None


_living: "weakref.WeakSet[ConnectedConfluent]" = weakref.WeakSet()


def _abandon_all() -> None:
    for connection in list(_living):
        connection.abandon()


os.register_at_fork(after_in_child=_abandon_all)


def connect(kafka: Kafka) -> Any:
    """What `clients` looks for here."""
    return ConnectedConfluent(kafka)
