"""The Kafka half of the log: `Kafka`, which describes it, and the connection over kafka-python.

What the rest may ask of Kafka is `stores.KafkaLog` and nothing more: `librdkafka` is another one, which asks this one what is asked
rarely.

Why not kafka-python's defaults: `auto_offset_reset` "earliest" or "latest" jumps silently when an offset is out of
range, `enable_auto_commit` moves offsets that nobody reads, and fetches of 500 records leave the network idle.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any, TypeVar

from kafka import KafkaConsumer
from kafka import TopicPartition as ClientTopicPartition
from kafka import errors as client_errors
from kafka.consumer.fetcher import ConsumerRecord
from kafka.structs import OffsetAndMetadata

from beam_unified.clock import SYSTEM_CLOCK, Clock
from beam_unified.errors import ConfigError, DataLossError, KafkaUnavailableError, UnknownTopicError
from beam_unified.kafka import clients
from beam_unified.kafka.clients import Client
from beam_unified.kafka.connecting import RefusalNotingClient, client_config, connected, refused
from beam_unified.kafka.ends import EndCheck
from beam_unified.kafka.security import ELSEWHERE, Security
from beam_unified.offsets import OffsetRange, TopicPartition
from beam_unified.records import TIMESTAMP_TYPES, Batch, Columns, Headers, Record, Store, TimestampType, record_rows
from beam_unified.stores import Fetched, KafkaLog, OutOfRange

_T = TypeVar("_T")

_DEFAULTS: Mapping[str, object] = {
    "isolation_level": "read_committed",  # R4
    "bootstrap_timeout_ms": 5_000,  # an unreachable broker is an error in seconds, not minutes
    "fetch_max_wait_ms": 100,  # a broker answers one connection in order: a question waits behind a fetch that waits
    "max_partition_fetch_bytes": 8 * 1024 * 1024,  # one reader reads one partition: let a fetch be large
    "metadata_max_age_ms": 30_000,  # how long a topic that was created anew may go unnoticed
    "metrics_enabled": False,  # the client's own sensors cost per fetch and nobody reads them
}

_OURS: Mapping[str, object] = {
    "auto_offset_reset": "none",
    "enable_auto_commit": False,
    "group_id": None,
    "key_deserializer": None,
    "value_deserializer": None,
}

_REQUEST_TIMEOUT_MS = 10_000
_END_CHECK_TIMEOUT_MS = 500  # `process` waits for it

_NO_EPOCH = -1  # the client's word for a record whose leader epoch is not known


@dataclass(frozen=True)
class Kafka:
    """Where and how to reach the brokers. Frozen, picklable, without a connection.

    Args:
        bootstrap_servers: "host:port" or several, comma separated or as a sequence.
        config: Settings of the client, by Kafka's names with dots or underscores (`security.protocol`,
            `sasl_mechanism`, `ssl_cafile`, `isolation_level`, ...; docs/security.md). Copied. Offsets, groups and
            deserializers are ours and refused. A value may be a `Secret`, which each worker looks up; in place of the path of a
            certificate or key it stands for the PEM text.
        client: Who fetches: "kafka-python"; "confluent", librdkafka, several times as fast (`pip install
            beam-unified[confluent]`); "auto", that one on each worker where it is installed and has all the settings. They give
            the same (docs/clients.md).

    Values of `config` never appear in a repr, a log or an error.

    Raises:
        ConfigError: unknown or refused setting, security settings that do not go together, a setting that `client` lacks.
    """

    bootstrap_servers: str | Sequence[str]
    config: Mapping[str, object] = field(default_factory=dict, repr=False)
    client: Client = "kafka-python"

    def __post_init__(self) -> None:
        servers = self.bootstrap_servers
        object.__setattr__(self, "bootstrap_servers", servers if isinstance(servers, str) else ",".join(servers))
        if not self.bootstrap_servers:
            raise ConfigError("bootstrap_servers is empty: pass 'host:port'.")
        config = {name.replace(".", "_"): value for name, value in self.config.items()}
        if refused := sorted(config.keys() & (_OURS.keys() | {"bootstrap_servers", "kafka_client"})):
            raise ConfigError(f"Kafka config {refused[0]!r} is set by this package: leave it out.")
        if unknown := sorted(config.keys() - KafkaConsumer.DEFAULT_CONFIG.keys()):
            known = ELSEWHERE.get(unknown[0], "a setting of kafka-python's KafkaConsumer")
            raise ConfigError(f"unknown Kafka config {unknown[0]!r}: use {known}.")
        Security.of(config)
        if config.get("isolation_level", "read_committed") not in {"read_committed", "read_uncommitted"}:
            raise ConfigError("Kafka config 'isolation_level' must be 'read_committed' or 'read_uncommitted'.")
        clients.check(self.client, config)
        object.__setattr__(self, "config", config)

    @property
    def isolation_level(self) -> str:
        """What the consumer sees of transactions; `read_committed` unless configured."""
        return str(self.config.get("isolation_level", _DEFAULTS["isolation_level"]))

    @property
    def security(self) -> Security:
        """How a client proves who it is, and whom it trusts."""
        return Security.of(self.config)

    def fetch_settings(self, **defaults: object) -> dict[str, object]:
        """Those given; where none was given, `defaults`, then ours."""
        return {**_DEFAULTS, **defaults, **self.config}

    def connect(self) -> KafkaLog:
        """Opens a connection.

        Raises:
            KafkaUnavailableError: no broker answers within seconds.
            KafkaSecurityError: they refuse us, or we them; at once.
        """
        compiled = clients.compiled(self.client, self.config)
        connection: KafkaLog = ConnectedKafka(self) if compiled is None else compiled.connect(self)
        return connection


class ConnectedKafka:
    """A consumer that reads one partition at a time, by offset, without a group. Not thread safe.

    Attributes:
        ends: What is known of the end of the partition that is read.
    """

    def __init__(self, kafka: Kafka, clock: Clock = SYSTEM_CLOCK) -> None:
        """Connects; see `Kafka.connect`."""
        self._servers, self._security = kafka.bootstrap_servers, kafka.security
        self._client: RefusalNotingClient | None = None
        self._assigned: ClientTopicPartition | None = None
        self._position: int | None = None
        self._leader_epoch: int | None = None
        self.ends = EndCheck(lambda tp: self._end(tp, _END_CHECK_TIMEOUT_MS), clock)
        settings = {
            **_DEFAULTS,
            **client_config(kafka.config),
            **_OURS,
            "bootstrap_servers": str(kafka.bootstrap_servers).split(","),  # __post_init__ made it a str
        }
        self._consumer, self._client = self._guarded("connect", lambda: connected(KafkaConsumer, settings))

    def partitions(self, topic: str) -> tuple[int, ...]:
        """Partition numbers, ascending."""
        what = f"list partitions of topic {topic!r}"
        self._guarded(what, self._consumer.topics)  # always asks; the next line answers from what is known
        found = self._guarded(what, lambda: self._consumer.partitions_for_topic(topic))
        if not found:
            raise UnknownTopicError(
                f"topic {topic!r} does not exist on {self._servers}, or these credentials may not see it: "
                "check the name, the cluster and the Describe permission."
            )
        return tuple(sorted(found))

    def topics(self) -> tuple[str, ...]:
        """Topics these credentials may see, without Kafka's internal ones."""
        return tuple(sorted(self._guarded("list the topics", self._consumer.topics)))

    def topic_id(self, topic: str) -> str | None:
        """The topic's id, as of the last metadata, which a truncated log renews; None from brokers older than 2.8."""
        found = None if self._client is None else self._client.cluster.topic_id(topic)
        return None if found is None else str(found)

    def bounds(self, tp: TopicPartition) -> OffsetRange:
        """First offset held, and the end offset under the isolation level."""
        client_tp = _client(tp)
        first = self._ask(f"ask for the first offset of {tp}", self._consumer.beginning_offsets, [client_tp])[client_tp]
        return OffsetRange(first, max(first, self._end(tp)))

    def offset_at(self, tp: TopicPartition, timestamp_ms: int) -> int | None:
        """First offset with a timestamp >= `timestamp_ms`."""
        # The broker reads -1 and -2 as "latest" and "earliest" (KIP-79): instants before 1970 are asked for as 0.
        question = {_client(tp): max(0, timestamp_ms)}
        answer = self._ask(f"look up a time in {tp}", self._consumer.offsets_for_times, question)[_client(tp)]
        return None if answer is None else int(answer.offset)

    def fetch(
        self, tp: TopicPartition, offset: int, *, max_records: int, timeout_ms: int, leader_epoch: int | None = None
    ) -> Fetched | OutOfRange:
        """Records from `offset` on; see `stores.KafkaLog.fetch`."""
        client_tp = _client(tp)
        self._move_to(tp, offset, leader_epoch)
        try:
            polled = self._guarded(
                f"fetch {tp} at offset {offset}",
                lambda: self._consumer.poll(timeout_ms=timeout_ms, max_records=max_records),
            )
        except _FellOutOfRange:
            self._position = None
            return OutOfRange(held=self.bounds(tp))
        records = polled.get(client_tp)
        position = self._guarded(f"ask for the position in {tp}", lambda: self._consumer.position(client_tp, 0))
        self._position = offset if position is None else position
        if records and records[-1].leader_epoch != _NO_EPOCH:
            self._leader_epoch = records[-1].leader_epoch
        return self.ends.fetched(
            tp,
            offset,
            batch=KafkaBatch(records) if records else None,
            position=self._position,
            high_watermark=self._consumer.highwater(client_tp),
            leader_epoch=self._leader_epoch,
        )

    def follow(self, tp: TopicPartition) -> None:
        """A partition is read from now on through another client: its topic's id is known when this returns, and kept fresh."""
        self._assign(tp)
        self._end(tp)  # which cannot be asked without metadata

    def _assign(self, tp: TopicPartition) -> None:
        client_tp = _client(tp)
        if self._assigned != client_tp:
            self._consumer.assign([client_tp])
            self._assigned, self._position = client_tp, None
            self.ends.begin()

    def close(self) -> None:
        """Closes the connection."""
        self._consumer.close(autocommit=False)

    def _move_to(self, tp: TopicPartition, offset: int, leader_epoch: int | None) -> None:
        self._assign(tp)
        if self._position != offset:
            client_tp = _client(tp)
            self._consumer.seek(client_tp, offset)
            if leader_epoch is not None:
                # Its public `seek` knows no epoch. With one, the client asks the leader, before the first fetch, where
                # that epoch ended (KIP-320, OffsetForLeaderEpoch), and raises LogTruncationError if below the offset.
                self._consumer._subscription.seek(client_tp, OffsetAndMetadata(offset, "", leader_epoch))  # noqa: SLF001
            self._position, self._leader_epoch = offset, leader_epoch

    def _end(self, tp: TopicPartition, timeout_ms: int = _REQUEST_TIMEOUT_MS) -> int:
        client_tp, what = _client(tp), f"ask for the end offset of {tp}"
        return int(self._ask(what, self._consumer.end_offsets, [client_tp], timeout_ms)[client_tp])

    def _ask(
        self,
        what: str,
        method: Callable[..., Mapping[Any, Any]],
        question: object,
        timeout_ms: int = _REQUEST_TIMEOUT_MS,
    ) -> Mapping[Any, Any]:
        return self._guarded(what, lambda: method(question, timeout_ms=timeout_ms))

    def _truncated(self, ends: Mapping[ClientTopicPartition, OffsetAndMetadata | None]) -> DataLossError:
        """Where the log that was read ends now: None where the broker has no record of its epoch."""
        ((topic, partition), end) = next(iter(ends.items()))
        others = (
            "none of what was read is known to be in it"
            if end is None
            else f"from offset {end.offset} on it is another log"
        )
        return DataLossError(
            f"{TopicPartition(topic, partition)}: the log was truncated below offset {self._position}, up to which it was read: "
            f"{others}. An unclean leader election, or the topic was created anew. Decide where to go on with Start.offsets(...)."
        )

    def _guarded(self, what: str, call: Callable[[], _T]) -> _T:
        """Runs a call of the client; its errors become ours, with the next step."""
        try:
            return call()
        except client_errors.OffsetOutOfRangeError as error:
            raise _FellOutOfRange from error
        except client_errors.LogTruncationError as error:
            with contextlib.suppress(client_errors.KafkaError):
                self._consumer.topics()  # asks anew: whether it still is the same topic
            raise self._truncated(error.divergent_offsets) from error
        except ConfigError:
            raise
        except (
            client_errors.KafkaConfigurationError,
            client_errors.UnsupportedCodecError,
            TypeError,
            ValueError,
        ) as error:
            raise ConfigError(f"could not {what} on {self._servers}: {error}") from error
        except (client_errors.KafkaError, OSError) as error:
            noted = None if self._client is None else self._client.refusal
            if (refusal := refused(error, what, self._servers, self._security, noted)) is not None:
                raise refusal from error
            raise KafkaUnavailableError(
                f"could not {what}: no usable answer from {self._servers} ({type(error).__name__}). Check the address, "
                "that the broker runs, that its advertised.listeners can be reached from here, and that the listener there speaks "
                f"{self._security} (security_protocol)."
            ) from error


class KafkaBatch:
    """A batch over the client's records. They are turned into columns once, when the first column is asked for."""

    __slots__ = ("_columns", "_records")

    store = Store.KAFKA

    def __init__(self, records: Sequence[ConsumerRecord]) -> None:
        """Takes the records as the client gave them, of one partition, in offset order."""
        self._records = records
        self._columns: ConsumerRecord | None = None

    def __len__(self) -> int:
        return len(self._records)

    def last_offset(self) -> int:
        """Offset of the last record."""
        return int(self._records[-1].offset)

    def offsets(self) -> Sequence[int]:
        """Offsets."""
        return self._transposed().offset  # type: ignore[no-any-return]  # the client is untyped

    def timestamps(self) -> Sequence[int | None]:
        """Kafka timestamps; the protocol's -1 becomes None."""
        timestamps = self._transposed().timestamp
        return [None if time == -1 else time for time in timestamps] if -1 in timestamps else timestamps

    def values(self) -> Sequence[bytes | None]:
        """Values."""
        return self._transposed().value  # type: ignore[no-any-return]

    def iter_records(self) -> Iterator[Record]:
        """Whole records, one by one."""
        columns, timestamps = self._transposed(), self.timestamps()
        types: Iterable[TimestampType | None]
        if None in timestamps:
            types = [
                None if time is None else TIMESTAMP_TYPES.get(kind)
                for time, kind in zip(timestamps, columns.timestamp_type, strict=True)
            ]
        else:
            types = map(TIMESTAMP_TYPES.get, columns.timestamp_type)
        headers = map(_headers, columns.headers) if any(columns.headers) else repeat(())
        return record_rows(
            columns.key,
            columns.value,
            headers,
            columns.topic,
            columns.partition,
            columns.offset,
            timestamps,
            types,
            repeat(self.store.value),
        )

    def records(self) -> list[Record]:
        """Whole records at once."""
        return list(self.iter_records())

    def columns(self) -> Columns:
        """Implements `records.Columnar`."""
        found, timestamps = self._transposed(), self.timestamps()
        types = found.timestamp_type
        if None in timestamps or not TIMESTAMP_TYPES.keys() >= set(types):
            known = TIMESTAMP_TYPES
            types = [
                None if time is None or kind not in known else kind
                for time, kind in zip(timestamps, types, strict=True)
            ]
        return Columns(found.key, found.value, found.headers, found.offset, timestamps, types)

    def size_bytes(self) -> int:
        """Keys and values."""
        columns = self._transposed()
        sizes = (columns.serialized_key_size, columns.serialized_value_size)
        return sum(sum(column) + column.count(-1) for column in sizes)  # -1 is the client's word for None

    def between(self, start: int, stop: int | None) -> Batch:
        """The records with `start <= offset < stop`."""
        records = self._records
        if records[0].offset >= start and (stop is None or records[-1].offset < stop):
            return self
        return KafkaBatch([r for r in records if r.offset >= start and (stop is None or r.offset < stop)])

    def _transposed(self) -> ConsumerRecord:
        """A `ConsumerRecord` whose fields are columns: one pass in C instead of an attribute a record a column."""
        if self._columns is None:
            self._columns = ConsumerRecord(*zip(*self._records, strict=True)) if self._records else _NO_COLUMNS
        return self._columns


_NO_COLUMNS = ConsumerRecord(*repeat((), len(ConsumerRecord._fields)))


def _headers(pairs: Sequence[tuple[str, bytes | None]]) -> Headers:
    return tuple([(name, value) for name, value in pairs])


class _FellOutOfRange(Exception):
    """The client says that the offset is out of range; `fetch` turns it into an answer."""


def _client(tp: TopicPartition) -> ClientTopicPartition:
    return ClientTopicPartition(tp.topic, tp.partition)
