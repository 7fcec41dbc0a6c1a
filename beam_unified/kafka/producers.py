"""Writing to Kafka over kafka-python's producer: a bounded number of bytes on their way, and no delivery taken for granted.

Why not its producer alone: it buffers without limit (3.0.12 has no `buffer_memory`), a failed delivery shows only in a future, and
after a batch that timed out it may fall silent for good. So a writer holds every future until it is known, waits where too much
is on its way, and one that has failed is never used again.
"""

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kafka import KafkaProducer
from kafka import errors as client_errors

from beam_unified.errors import BadRecordError, ConfigError, KafkaUnavailableError, StoreError, UnknownTopicError
from beam_unified.kafka.client import Kafka
from beam_unified.kafka.connecting import client_config, connected, refused
from beam_unified.kafka.security import ELSEWHERE, NAMES
from beam_unified.records import KafkaRecord
from beam_unified.secrets import resolved

_CLOSE_S = 5.0
_SLACK_S = 10.0  # beyond the client's own deadline: then it has fallen silent
_IDEMPOTENT_IN_FLIGHT = 5  # batches of a producer that a broker remembers
_OVERHEAD = 500  # about what a record of no bytes takes in this process, in bytes

DEFAULTS: Mapping[str, object] = {
    "acks": "all",
    "enable_idempotence": True,  # no duplicates and no disorder by the client's own retries; off where `acks` and others forbid
    "compression_type": "lz4",
    "linger_ms": 5,
    "batch_size": 256 * 1024,  # 16 KiB, the client's, makes many small requests of a bundle
    "delivery_timeout_ms": 120_000,
    "request_timeout_ms": 30_000,
    "bootstrap_timeout_ms": 5_000,
    "allow_auto_create_topics": False,  # a mistyped name is an error, not a new topic
    "metrics_enabled": False,
}

_OURS: Mapping[str, object] = {"key_serializer": None, "value_serializer": None, "transactional_id": None}

Partitioner = Callable[[bytes | None, tuple[int, ...]], int]
"""Key and partition numbers, ascending, to a partition number."""


@dataclass(frozen=True, kw_only=True)
class WriteSettings:
    """How to write. Frozen, picklable.

    Raises:
        ConfigError: unknown or refused setting, one of the wrong type, settings that do not go together.
    """

    kafka: Kafka
    config: Mapping[str, object]
    partitioner: Partitioner | None
    max_in_flight_bytes: int

    def __post_init__(self) -> None:
        config = {name.replace(".", "_"): value for name, value in self.config.items()}
        if refused := sorted(config.keys() & (_OURS.keys() | {"bootstrap_servers", "kafka_client"})):
            raise ConfigError(f"WriteKafka config {refused[0]!r} is set by this package: leave it out.")
        if misplaced := sorted(config.keys() & (NAMES | ELSEWHERE.keys() | {"ssl_context"})):
            raise ConfigError(
                f"WriteKafka config {misplaced[0]!r}: security settings go into Kafka(..., config=), which readers share."
            )
        if unknown := sorted(config.keys() - KafkaProducer.DEFAULT_CONFIG.keys()):
            raise ConfigError(
                f"unknown WriteKafka config {unknown[0]!r}: use a setting of kafka-python's KafkaProducer."
            )
        for name, value in config.items():
            _check_kind(name, value)
        if "acks" in config:
            config["acks"] = _acks(config["acks"])
        if config.get("enable_idempotence") and (without := _not_idempotent({**self.kafka.config, **config})):
            raise ConfigError(
                f"WriteKafka config 'enable_idempotence' is not to be had with {without}: leave one of them out. Without "
                "idempotence the client's own retries may double and reorder records."
            )
        object.__setattr__(self, "config", config)

    def client_settings(self) -> dict[str, object]:
        """For the client's constructor. Looks secrets up."""
        shared = {**self.kafka.config, **self.config}
        ours = {**DEFAULTS, "enable_idempotence": _not_idempotent(shared) is None, **resolved(self.config), **_OURS}
        return client_settings(self.kafka, KafkaProducer.DEFAULT_CONFIG, ours)


def _check_kind(name: str, value: object) -> None:
    """The client compares numbers and does not look at what it is given; every text is true to it."""
    default = KafkaProducer.DEFAULT_CONFIG[name]
    if isinstance(default, bool) and not isinstance(value, bool):
        raise ConfigError(f"WriteKafka config {name!r} must be True or False, got {type(value).__name__}.")
    if name == "acks" or isinstance(default, bool) or not isinstance(default, int | float):
        return
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"WriteKafka config {name!r} must be a number, without quotes, got {type(value).__name__}.")


def _acks(value: object) -> object:
    """As the client wants it; elsewhere it is a text, too."""
    known: Mapping[str, object] = {"all": "all", "-1": "all", "1": 1}
    if str(value) == "0":
        raise ConfigError("WriteKafka config 'acks' 0 acknowledges nothing, so that losses go unseen: use 'all' or 1.")
    if str(value) not in known:
        raise ConfigError(f"WriteKafka config 'acks' must be 'all' or 1, got {value!r}.")
    return known[str(value)]


def _not_idempotent(config: Mapping[str, object]) -> str | None:
    """The setting with which a producer cannot be idempotent (KIP-679), as "name=value"; None where it can."""
    if config.get("acks") == 1:
        return "acks=1"
    if config.get("retries") == 0:
        return "retries=0"
    name = "max_in_flight_requests_per_connection"
    in_flight = config.get(name)
    return f"{name}={in_flight}" if isinstance(in_flight, int) and in_flight > _IDEMPOTENT_IN_FLIGHT else None


class KafkaWriter:
    """A producer, and what it has not yet acknowledged. Not thread safe. One that has raised is of no more use: close it."""

    def __init__(self, settings: WriteSettings) -> None:
        """Connects. Raises KafkaUnavailableError within seconds where no broker answers."""
        self._servers, self._security = str(settings.kafka.bootstrap_servers), settings.kafka.security
        self._partitioner, self._limit = settings.partitioner, settings.max_in_flight_bytes
        self._pending: deque[tuple[Any, int, str]] = deque()
        self._in_flight = 0
        client = settings.client_settings()
        timeout_ms: Any = client["delivery_timeout_ms"]
        self._deadline_s = timeout_ms / 1_000 + _SLACK_S
        try:
            self._producer, self._client = connected(KafkaProducer, client)
        except ConfigError:
            raise
        except (client_errors.KafkaConfigurationError, TypeError, ValueError) as error:
            raise ConfigError(f"could not make a producer for {self._servers}: {error}") from error
        except (client_errors.KafkaError, OSError) as error:
            raise self._error(error, "any topic", None) from error

    def write(self, topic: str, record: KafkaRecord) -> int:
        """Hands a record over, and waits while too many bytes are on their way. Gives its bytes.

        Raises:
            StoreError: this record, or one before it, cannot be delivered.
            BadRecordError: Kafka cannot hold this record.
        """
        key, value, headers = record.key, record.value, record.headers
        size = len(key or b"") + len(value or b"")
        try:
            partition = record.partition
            if partition is None and self._partitioner is not None:
                partition = self._partitioner(key, tuple(sorted(self._producer.partitions_for(topic))))
            sent = self._producer.send(topic, value, key, list(headers), partition, record.timestamp)
        except client_errors.KafkaError as error:
            raise self._error(error, topic, self._client.refusal) from error
        except (TypeError, ValueError, AttributeError) as error:
            raise BadRecordError(
                f"topic {topic!r}: a record with key {key!r:.80} cannot be written ({type(error).__name__}: {error}). Key and "
                "value must be bytes, and one of them not None; headers pairs of str and bytes; the partition one that exists."
            ) from error
        self._pending.append((sent, size + _OVERHEAD, topic))
        self._in_flight += size + _OVERHEAD
        while self._pending and (self._pending[0][0].is_done or self._in_flight > self._limit):
            self._settle()
        return size

    def flush(self) -> None:
        """Waits until everything is acknowledged. Raises as `write`."""
        if self._pending:
            try:
                self._producer.flush(self._deadline_s)
            except client_errors.KafkaError as error:
                raise self._error(error, self._pending[0][2], self._client.refusal) from error
        while self._pending:
            self._settle()

    def close(self) -> None:
        """Ends it, with its thread and connections; what is not acknowledged may be lost. Idempotent."""
        if self._pending:
            end_producer(self._producer)
            self._pending.clear()
        else:
            close_producer(self._producer)

    def _settle(self) -> None:
        """Waits for the oldest record."""
        sent, size, topic = self._pending[0]
        try:
            sent.get(timeout=self._deadline_s)
        except client_errors.KafkaError as error:
            raise self._error(error, topic, self._client.refusal) from error
        self._pending.popleft()
        self._in_flight -= size

    def _error(
        self, error: Exception, topic: str, noted: BaseException | None
    ) -> StoreError | BadRecordError | ConfigError:
        where = next((f" to {tp.topic}[{tp.partition}]" for tp in self._failed_partitions()), f" to topic {topic!r}")
        name = type(error).__name__
        if isinstance(error, client_errors.MessageSizeTooLargeError | client_errors.RecordListTooLargeError):
            return BadRecordError(
                f"a record{where} is too large ({name}): raise max_request_size in WriteKafka's config, and max.message.bytes "
                "of the topic."
            )
        if isinstance(error, client_errors.UnknownTopicOrPartitionError | client_errors.InvalidTopicError):
            return UnknownTopicError(
                f"could not write{where}: {self._servers} has no such topic. Create it, or check its name."
            )
        refusal = refused(error, f"write{where}", self._servers, self._security, noted)
        if refusal is not None:
            return refusal
        return KafkaUnavailableError(
            f"could not write{where}: {self._servers} did not acknowledge it ({name}: {error!s:.200}). Check that the brokers "
            "run, that enough replicas are in sync (min.insync.replicas), and delivery_timeout_ms. The bundle fails and is "
            "written again."
        )

    def _failed_partitions(self) -> list[Any]:
        return [sent._produce_future.topic_partition for sent, _, _ in self._pending if sent.failed()][:1]  # noqa: SLF001


class WriterPool:
    """Writers of one worker process between bundles, by transform. Thread safe. A writer is leased to one bundle at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users: dict[str, int] = {}
        self._idle: dict[str, list[KafkaWriter]] = {}

    def enter(self, key: str) -> None:
        """A user more. Needs one `leave`."""
        with self._lock:
            self._users[key] = self._users.get(key, 0) + 1

    def leave(self, key: str) -> None:
        """A user less; the last one closes what is idle."""
        with self._lock:
            self._users[key] -= 1
            closing = [] if self._users[key] else self._idle.pop(key, [])
            if not self._users[key]:
                del self._users[key]
        for writer in closing:
            writer.close()

    def lease(self, key: str, settings: WriteSettings) -> KafkaWriter:
        """An idle writer, or a new one."""
        with self._lock:
            idle = self._idle.get(key)
            if idle:
                return idle.pop()
        return KafkaWriter(settings)

    def give_back(self, key: str, writer: KafkaWriter) -> None:
        """A writer that is flushed. Closed where nobody is left to use it."""
        with self._lock:
            if key in self._users:
                self._idle.setdefault(key, []).append(writer)
                return
        writer.close()

    def close_all(self) -> None:
        """Closes what is idle. The pool stays usable. For tests, and the end of a process."""
        with self._lock:
            closing, self._idle = [writer for writers in self._idle.values() for writer in writers], {}
        for writer in closing:
            writer.close()


WRITERS = WriterPool()
"""Of this process."""


def close_producer(producer: KafkaProducer) -> None:
    """Ends a producer. Its own `close` gives up when a flush takes too long, and leaves thread and sockets."""
    try:
        producer.close(_CLOSE_S)
    except client_errors.KafkaError:
        end_producer(producer)


def end_producer(producer: KafkaProducer) -> None:
    """Ends a producer without waiting for what it has not sent."""
    producer._sender.force_close()  # noqa: SLF001 - the only way to end it
    producer._sender.join(_CLOSE_S)  # noqa: SLF001
    producer._unregister_cleanup()  # noqa: SLF001
    producer._closed = True  # noqa: SLF001 - else it flushes once more when it is collected


def client_settings(kafka: Kafka, known: Mapping[str, object], ours: Mapping[str, object]) -> dict[str, object]:
    """Settings of another client of the same cluster: of the consumer's, those that it knows as well. Looks secrets up."""
    shared = {name: value for name, value in client_config(kafka.config).items() if name in known}
    servers: str = kafka.bootstrap_servers  # type: ignore[assignment]  # its __post_init__ made it a str
    return {**shared, **ours, "bootstrap_servers": servers.split(",")}
