"""A worker's connection to a sync topic: the thread that reads and writes it. Made by `KafkaSyncTopic.connect`.

The thread alone meets the network. It outlives the brokers' absence, by one connection after another, and ends with `close`.
"""

import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence

from kafka import KafkaProducer
from kafka import errors as client_errors

from beam_unified.clock import SYSTEM_CLOCK
from beam_unified.errors import ConfigError, DataLossError, KafkaSecurityError, KafkaUnavailableError, UnknownTopicError
from beam_unified.kafka.client import Kafka
from beam_unified.kafka.connecting import connected, refused
from beam_unified.kafka.producers import client_settings, close_producer
from beam_unified.offsets import TopicPartition
from beam_unified.records import Record
from beam_unified.stores import KafkaLog, OutOfRange
from beam_unified.sync import wire
from beam_unified.sync.coordinator import subject
from beam_unified.sync.reports import Entry, Logged

_LOGGER = logging.getLogger(__name__)

_POLL_MS = 50  # what a report may wait before it is sent; shorter ones cost processor and gain nothing (measured)
_FLUSH_S = 5.0  # what `close` waits for reports to be acknowledged
_ANSWER_S = 12.0
_RETRY_S = 1.0

_PRODUCER: Mapping[str, object] = {
    "acks": "all",
    "request_timeout_ms": 5_000,
    "delivery_timeout_ms": 10_000,  # then it is handed over again, if nothing newer is there
    "max_block_ms": 1_000,
    "metrics_enabled": False,
}


class KafkaCoordinator:
    """A worker's connection. Implements `Coordinator`; what it cannot send it keeps, the newest of each subject."""

    def __init__(self, kafka: Kafka, topic: str, group: str, run_id: str, *, create_topic: Callable[[], None]) -> None:
        """Starts the thread.

        Args:
            kafka: Where.
            topic: The topic of the group.
            group: Name of the group.
            run_id: The run.
            create_topic: Makes the topic. Called by the thread, where it does not exist.
        """
        self._kafka, self._group, self._run_id, self._create_topic = kafka, group, run_id, create_topic
        self._tp = TopicPartition(topic, 0)
        self._prefix = wire.run_prefix(group, run_id)
        self._changed = threading.Condition()  # guards what follows
        self._unsent: dict[object, Entry] = {}
        self._sending: dict[object, Entry] = {}
        self._unread: deque[Logged] = deque()
        self._wrong: ConfigError | KafkaSecurityError | None = None  # what waiting does not mend
        self._caught_up = False
        self._handed_out = False
        self._reachable = True
        self._closing = threading.Event()
        self._close_by = 0.0
        self._asked_at: float | None = None  # since when the brokers have acknowledged nothing of what is on its way
        # Of the thread alone:
        self._offset = 0
        self._first_end: int | None = None  # of the topic, when it was first reached
        self._others: dict[bytes, int] | None = {}  # key -> newest timestamp, of other runs, on the way to that end
        self._thread = threading.Thread(target=self._run, name=f"sync {group}", daemon=True)
        self._thread.start()

    def publish(self, entry: Entry) -> None:
        """See `Coordinator`."""
        with self._changed:
            self._unsent[subject(entry)] = entry

    def drain(self) -> Sequence[Logged]:
        """See `Coordinator`. Raises ConfigError where the topic cannot serve, KafkaSecurityError where the brokers refuse us."""
        with self._changed:
            if self._wrong is not None:
                raise self._wrong
            unread, self._unread = self._unread, deque()
            self._handed_out = self._caught_up
            return unread

    def caught_up(self) -> bool:
        """See `Coordinator`."""
        return self._handed_out

    def close(self) -> None:
        """Ends the thread, when what was handed over is acknowledged, or after some seconds."""
        if self._closing.is_set():
            return
        self._close_by = SYSTEM_CLOCK.monotonic() + _FLUSH_S
        self._closing.set()
        self._thread.join(3 * _FLUSH_S)
        with self._changed:
            left = len({**self._sending, **self._unsent})
        if left:
            _LOGGER.error(
                "sync group %r: %d reports have not got into topic %r. A reader that is done, and is not known to be, holds "
                "the others: when they wait for it, restart the job.", self._group, left, self._tp.topic,
            )  # fmt: skip

    def wait(self, timeout_s: float) -> None:
        """Waits until there may be something to drain."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._unread), timeout_s)

    # -- the thread

    def _run(self) -> None:
        """Serves, over one connection after another, until it is closed."""
        while self._goes_on():
            try:
                with self._connected() as (log, producer):
                    self._serve(log, producer)
            except (ConfigError, KafkaSecurityError) as error:
                with self._changed:
                    self._wrong = error
                return
            except Exception as error:  # noqa: BLE001 - whatever the client raises, the thread must be there afterwards
                if isinstance(error, DataLossError):  # the topic was made anew
                    self._offset = 0
                self._note_reachable(error)
                self._closing.wait(_RETRY_S)

    def _goes_on(self) -> bool:
        """Until it is closed, and what was handed over is acknowledged or it has taken too long."""
        if not self._closing.is_set():
            return True
        with self._changed:
            return bool(self._unsent or self._sending) and SYSTEM_CLOCK.monotonic() < self._close_by

    @contextlib.contextmanager
    def _connected(self) -> Iterator[tuple[KafkaLog, KafkaProducer]]:
        with contextlib.ExitStack() as stack:
            log = self._kafka.connect()
            stack.callback(log.close)
            self._ensure_topic(log)
            end = log.bounds(self._tp).stop
            self._first_end = end if self._first_end is None else self._first_end
            producer, _ = connected(
                KafkaProducer, client_settings(self._kafka, KafkaProducer.DEFAULT_CONFIG, _PRODUCER)
            )
            stack.callback(close_producer, producer)
            with self._changed:  # what the last connection left without an answer
                self._unsent = {**self._sending, **self._unsent}
                self._sending.clear()
                self._asked_at = None
            yield log, producer

    def _ensure_topic(self, log: KafkaLog) -> None:
        topic = self._tp.topic
        try:
            partitions = log.partitions(topic)
        except UnknownTopicError:
            self._create_topic()
            return
        if len(partitions) != 1:
            raise ConfigError(
                f"topic {topic!r} of sync group {self._group!r} has {len(partitions)} partitions, and must have one, for one "
                "order: delete it, so that it is created anew, or give KafkaSyncTopic(topic=...) another name."
            )

    def _serve(self, log: KafkaLog, producer: KafkaProducer) -> None:
        while self._goes_on():
            self._send(producer)
            self._read(log)
            if self._caught_up and self._others is not None:
                _forget(producer, self._tp.topic, self._others, SYSTEM_CLOCK.now_ms())
                self._others = None

    def _send(self, producer: KafkaProducer) -> None:
        """One report of a member at a time is on its way, so that a second try never overtakes a newer one."""
        with self._changed:
            if self._wrong is not None:
                raise self._wrong
            going = {about: entry for about, entry in self._unsent.items() if about not in self._sending}
            for about in going:
                del self._unsent[about]
            self._sending.update(going)
            now = SYSTEM_CLOCK.monotonic()
            if going and self._asked_at is None:
                self._asked_at = now
            if self._asked_at is not None and now - self._asked_at > _ANSWER_S:
                # After a batch that timed out the client may never send again, though the brokers are back: another one will.
                raise KafkaUnavailableError(f"no report was acknowledged in {_ANSWER_S:.0f} s")
        for about, entry in going.items():
            key, value = wire.encode(self._group, self._run_id, entry)
            try:
                sent = producer.send(self._tp.topic, key=key, value=value, partition=0)
            except client_errors.KafkaError as error:
                self._failed(about, error)
                continue
            sent.add_callback(self._arrived, about)
            sent.add_errback(self._failed, about)

    def _arrived(self, about: object, _metadata: object) -> None:
        with self._changed:
            self._sending.pop(about, None)
            self._asked_at = SYSTEM_CLOCK.monotonic() if self._sending else None

    def _failed(self, about: object, error: Exception) -> None:
        what = f"write to topic {self._tp.topic!r} of sync group {self._group!r}"
        refusal = refused(error, what, self._kafka.bootstrap_servers, self._kafka.security)
        with self._changed:
            self._wrong = self._wrong or refusal
            entry = self._sending.pop(about, None)
            if entry is not None:
                self._unsent.setdefault(about, entry)
        self._note_reachable(error)

    def _read(self, log: KafkaLog) -> None:
        fetched = log.fetch(self._tp, self._offset, max_records=10_000, timeout_ms=_POLL_MS)
        if isinstance(fetched, OutOfRange):
            self._offset = fetched.held.start
            return
        found = [] if fetched.batch is None else [self._parsed(record) for record in fetched.batch.records()]
        self._offset = fetched.next_offset
        if found or fetched.at_end:
            self._note_reachable(None)
        caught_up = self._first_end is not None and self._offset >= self._first_end
        with self._changed:
            self._unread.extend(logged for logged in found if logged is not None)
            self._caught_up = caught_up
            self._changed.notify_all()

    def _parsed(self, record: Record) -> Logged | None:
        """An entry of this run; None for what is none."""
        key, value, at_ms = record.key, record.value, record.timestamp or 0
        if key is None or not key.startswith(self._prefix):
            if self._others is not None and key is not None:
                self._others.pop(key, None)
                if value is not None:
                    self._others[key] = at_ms
            return None
        if value is None:
            return None
        try:
            entry = wire.decode(key, value)
        except ValueError as error:
            _LOGGER.warning("%s offset %d: not an entry of a sync group, skipped: %s", self._tp, record.offset, error)
            return None
        return None if entry is None else Logged(entry, at_ms)

    def _note_reachable(self, error: Exception | None) -> None:
        """Says once that the topic is lost, and once that it is back."""
        with self._changed:
            changed, self._reachable = self._reachable is not (error is None), error is None
        if changed and error is None:
            _LOGGER.warning("sync group %r: topic %r is back", self._group, self._tp.topic)
        elif changed:
            _LOGGER.warning("sync group %r: lost topic %r, trying again: %s", self._group, self._tp.topic, error)


def _forget(producer: KafkaProducer, topic: str, newest: Mapping[bytes, int], now_ms: int) -> None:
    """Tombstones for runs that are over. Nobody waits for them: what is not forgotten now is forgotten by the next run."""
    for key in wire.runs_to_forget(newest, now_ms):
        producer.send(topic, key=key, value=None, partition=0)
