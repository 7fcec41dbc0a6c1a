"""One partition of the unlimited log: records from any offset on, whichever store has them.

`LogReader.read` is called again and again with the next offset; it answers with progress, with "nothing yet", or
raises. It keeps what is costly to open (a consumer, a flush) between calls, and notices when a call asks for another
offset than the one it stands at. It does not know Beam, claims, watermarks or budgets.
"""

import logging
from collections import deque
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Literal

from beam_unified.clock import Clock
from beam_unified.errors import DataLossError, UnifiedLogError, UnknownTopicError
from beam_unified.flushes import Flush, FlushIndex
from beam_unified.offsets import OffsetRange, TopicPartition
from beam_unified.reading.choice import FromArchive, FromKafka, Missing, Prefer, Truncated, choose
from beam_unified.records import Batch, Store
from beam_unified.stores import ArchiveLog, FlushReader, KafkaLog, MayEndEarly, Opening, OpensAhead, OutOfRange

_LOGGER = logging.getLogger(__name__)

_EMPTY = FlushIndex()
_ROUND_TRIP_MS = 250  # a first fetch on a new connection takes about this long
_MOST_AHEAD, _AHEAD_OFFSETS = 4, 50_000  # flushes opened before their turn: one, or so many as these offsets need
_RELIST_INTERVAL_S = 1.0  # how often a reader in front of a gap looks for a late file


_GAP_REMINDER_S = 60.0  # how often a reader that waits in front of a gap says so

OnGap = Literal["fail", "skip", "wait"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """How the two stores are used.

    Attributes:
        prefer: Which store serves an offset that both hold (R2).
        on_gap: What becomes of a gap that outlasts `gap_timeout` (R5): an error, a `Gap` to go on behind, or patience.
        gap_timeout: How long to look for a late file first.
    """

    prefer: Prefer = "archive"
    on_gap: OnGap = "fail"
    gap_timeout: timedelta = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Lineage:
    """Which log the records below the next offset were read from: another one must not be read on from there.

    Attributes:
        topic_id: Of the topic, where the brokers have told (KIP-516).
        leader_epoch: Of the last record, where it came from Kafka (KIP-320).
    """

    topic_id: str | None = None
    leader_epoch: int | None = None


_NO_LINEAGE = Lineage()


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """The log was read up to `next_offset`.

    Attributes:
        batch: The records in between; None where there are none (transaction markers, a compacted stretch).
        next_offset: The offset to go on with. Every offset below it has been given or does not exist.
        store: Where this stretch was read.
        high_watermark: Kafka's high watermark as last seen, for estimates.
        leader_epoch: For the `Lineage` of the next read; None where the last record came from the archive.
        repeated: How many offsets at the beginning of a file were dropped, because an earlier one, or Kafka, had given them.
    """

    batch: Batch | None
    next_offset: int
    store: Store
    high_watermark: int | None = None
    leader_epoch: int | None = None
    repeated: int = 0

    def until(self, start: int, stop: int) -> "Progress":
        """The part of it in `[start, stop)`."""
        kept = None if self.batch is None else self.batch.between(start, stop)
        return replace(self, batch=kept if kept else None, next_offset=stop)

    def since(self, start: int) -> "Progress":
        """The rest of it behind `until(..., start)`."""
        kept = None if self.batch is None else self.batch.between(start, None)
        return replace(self, batch=kept if kept else None, repeated=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Offsets that neither store has, given up after `gap_timeout`. Go on behind them.

    Attributes:
        offsets: The missing range.
        high_watermark: None: nothing was asked of Kafka that would tell.
    """

    offsets: OffsetRange
    high_watermark: int | None = None

    @property
    def next_offset(self) -> int:
        """The offset to go on with."""
        return self.offsets.stop

    def until(self, start: int, stop: int) -> "Gap":
        """The part of it in `[start, stop)`."""
        return replace(self, offsets=OffsetRange(start, stop))


@dataclass(frozen=True, slots=True, kw_only=True)
class NothingYet:
    """Nothing to read at the moment.

    Attributes:
        at_end: Made sure of with the broker: the log ends here. False while a transaction is open, a broker is silent
            or a gap is being waited for.
        checked_s_ago: How many seconds ago the broker said so.
        high_watermark: Kafka's high watermark as last seen, for estimates.
    """

    at_end: bool
    checked_s_ago: float = 0.0
    high_watermark: int | None = None


class LogReader:
    """Reads one partition. Not thread safe. Owns `kafka`, which `close` closes; shares `archive`."""

    def __init__(
        self, tp: TopicPartition, kafka: KafkaLog, archive: ArchiveLog | None, options: ReadOptions, clock: Clock
    ) -> None:
        """Opens nothing yet."""
        self._tp = tp
        self._kafka = kafka
        self._archive = archive
        self._options = options
        self._clock = clock
        self._open: _OpenFlush | None = None
        either: object = archive
        self._opens_ahead = either if isinstance(either, OpensAhead) else None
        self._ahead: deque[_Ordered] = deque()
        self._seen = _EMPTY
        self._on_kafka = False
        self._came_up_empty_at: int | None = None
        self._archive_until: int | None = None  # with prefer="kafka": where Kafka goes on, as it last said
        self._gap: _OpenGap | None = None
        self._read_to: int | None = None
        self._last_flush: Flush | None = None
        self._relisted_at: float | None = None

    @property
    def position(self) -> int | None:
        """The offset at which an open file of the archive stands; None where none is open."""
        return None if self._open is None else self._open.position

    def in_kafka(self) -> bool:
        """Whether Kafka has the partition. Asks it."""
        try:
            return self._tp.partition in self._kafka.partitions(self._tp.topic)
        except UnknownTopicError:
            return False

    def read(
        self, offset: int, *, stop: int | None, max_records: int, timeout_ms: int, lineage: Lineage = _NO_LINEAGE
    ) -> Progress | NothingYet | Gap:
        """Reads on from `offset`.

        Args:
            offset: The next offset wanted.
            stop: Offset not to reach; None reads on for ever.
            max_records: At most so many records.
            timeout_ms: How long to wait at most where Kafka has nothing yet.
            lineage: What is known of the log that was read up to here.

        Raises:
            DataLossError: a gap that outlasted `gap_timeout`, a log truncated below `offset`, a topic created anew.
            StoreError: a store that does not answer, or holds what it should not.
        """
        if self._open is not None and self._open.position != offset:
            self._close_flush()
        if self._open is None and not self._on_kafka:
            self._open_covering(offset)
        if self._open is not None:
            return self._read_flush(self._open, stop, max_records)
        self._close_ahead()
        return self._read_kafka(offset, stop, max_records, timeout_ms, lineage)

    def close(self) -> None:
        """Gives back the consumer and open files. Idempotent."""
        self._close_ahead()
        self._close_flush()
        self._kafka.close()

    # -- the archive half

    def _index(self, *, refresh: bool = False) -> FlushIndex:
        if self._archive is not None:
            self._seen = self._archive.index(self._tp, refresh=refresh)
        return self._seen

    def _open_covering(self, offset: int) -> None:
        """Opens the flush that is to serve `offset`, if one is; lists anew before it believes that there is none."""
        for refresh in (False, True):
            choice = choose(offset, index=self._index(refresh=refresh), not_in_kafka=None, prefer=self._options.prefer)
            if isinstance(choice, FromArchive):
                self._open_flush(choice.flush, offset)
                return
            if self._options.prefer == "kafka" or refresh or not self._may_relist():
                return

    def _open_flush(self, flush: Flush, offset: int) -> None:
        assert self._archive is not None, "a flush came from an index, which came from the archive"
        # Where this reader comes from another file, or from Kafka, what lies below was given by that.
        repeated = offset - flush.start if self._read_to == offset and self._last_flush != flush else 0
        opened = self._opened_ahead(flush, offset) or self._archive.open(self._tp, flush, offset)
        self._open = _OpenFlush(reader=opened, flush=flush, position=offset, repeated=repeated)
        self._gap, self._last_flush = None, flush

    def _opened_ahead(self, flush: Flush, offset: int) -> FlushReader | None:
        """The flush, if it was ordered. One that could not be opened before its turn is tried again, now that it is."""
        if not self._ahead or (self._ahead[0].flush, self._ahead[0].offset) != (flush, offset):
            self._close_ahead()
            return None
        try:
            return self._ahead.popleft().opening.take()
        except UnifiedLogError as error:
            _LOGGER.debug("%s: %s could not be opened ahead: %s", self._tp, flush, error)
            return None

    def _order_ahead(self, opened: "_OpenFlush", limit: int | None) -> None:
        """Has the flushes that come next opened in the meantime: one, or of small ones a few."""
        archive = self._opens_ahead
        if archive is None:
            return
        horizon = opened.position + max(_AHEAD_OFFSETS, (opened.flush.stop - opened.flush.start) // 2)
        while len(self._ahead) < _MOST_AHEAD:
            at = self._ahead[-1].flush.stop if self._ahead else opened.flush.stop
            flush = self._seen.covering(at)
            if flush is None or at >= horizon or (limit is not None and at >= limit):
                return
            self._ahead.append(_Ordered(flush, at, archive.open_ahead(self._tp, flush, at)))

    def _close_ahead(self) -> None:
        while self._ahead:
            self._ahead.pop().opening.close()

    def _read_flush(self, opened: "_OpenFlush", stop: int | None, max_records: int) -> Progress:
        batch = opened.reader.read(max_records)
        start, limit = opened.position, _least(stop, self._archive_until)
        opened.position = opened.stop if batch is None else batch.last_offset() + 1
        repeated, opened.repeated = opened.repeated, 0
        self._read_to = opened.position if limit is None else min(opened.position, limit)
        if batch is None or (self._archive_until is not None and opened.position >= self._archive_until):
            self._close_flush()
        self._order_ahead(opened, limit)
        return _progress(batch, opened.position, start, limit, store=Store.ARCHIVE, repeated=repeated)

    def _close_flush(self) -> None:
        if self._open is not None:
            self._open.reader.close()
            self._open = None

    # -- the Kafka half

    def _read_kafka(
        self, offset: int, stop: int | None, max_records: int, timeout_ms: int, lineage: Lineage
    ) -> Progress | NothingYet | Gap:
        if self._came_up_empty_at != offset:  # news is expected: this is the time of a round trip, not a wait for data
            timeout_ms = max(timeout_ms, _ROUND_TRIP_MS)
        try:
            fetched = self._kafka.fetch(
                self._tp, offset, max_records=max_records, timeout_ms=timeout_ms, leader_epoch=lineage.leader_epoch
            )
        except DataLossError:  # a truncated log: another topic of the name explains it better
            self._check_topic(lineage)
            raise
        self._check_topic(lineage)
        if isinstance(fetched, OutOfRange):
            return self._not_in_kafka(offset, fetched.held, stop, max_records)
        self._on_kafka, self._gap = True, None
        caught_up = fetched.high_watermark is not None and fetched.next_offset >= fetched.high_watermark
        self._came_up_empty_at = fetched.next_offset if caught_up or fetched.next_offset == offset else None
        if fetched.next_offset > offset:
            self._read_to, self._last_flush = fetched.next_offset, None
            return _progress(
                fetched.batch,
                fetched.next_offset,
                offset,
                stop,
                store=Store.KAFKA,
                high_watermark=fetched.high_watermark,
                leader_epoch=fetched.leader_epoch,
            )
        if fetched.at_end and fetched.checked_s_ago == 0:
            self._check_end(offset)
        return NothingYet(
            at_end=fetched.at_end, checked_s_ago=fetched.checked_s_ago, high_watermark=fetched.high_watermark
        )

    def _not_in_kafka(
        self, offset: int, held: OffsetRange, stop: int | None, max_records: int
    ) -> Progress | NothingYet | Gap:
        """Kafka does not hold `offset`: back to the archive, or a gap, or a truncated log."""
        self._on_kafka = False
        self._archive_until = held.start if self._options.prefer == "kafka" else None
        choice = choose(offset, index=self._index(), not_in_kafka=held, prefer=self._options.prefer)
        if isinstance(choice, Missing) and (self._may_relist() or self._patience_is_over()):
            choice = choose(offset, index=self._index(refresh=True), not_in_kafka=held, prefer=self._options.prefer)
        match choice:
            case FromArchive(flush):
                _LOGGER.info("%s: Kafka holds %s, back to the archive at offset %d", self._tp, held, offset)
                self._open_flush(flush, offset)
                assert self._open is not None
                return self._read_flush(self._open, stop, max_records)
            case FromKafka():  # the log moved between the fetch and the question: ask again
                return NothingYet(at_end=False)
            case Missing(offsets):
                missing = OffsetRange(offsets.start, offsets.stop if stop is None else min(stop, offsets.stop))
                return self._wait_for_late_file(missing)
            case Truncated():
                raise DataLossError(
                    f"{self._tp}: offset {offset} is above the end of the log, Kafka holds {held}. The topic was created "
                    "anew, or cut by an unclean leader election; what was read before may not be in it. "
                    "Decide where to go on with Start.offsets(...)."
                )

    def _may_relist(self) -> bool:
        now = self._clock.monotonic()
        if self._relisted_at is not None and now - self._relisted_at < _RELIST_INTERVAL_S:
            return False
        self._relisted_at = now
        return True

    def _patience_is_over(self) -> bool:
        """Whether the gap is to be believed now, provided that a last look finds no late file."""
        waited = 0.0 if self._gap is None else self._clock.monotonic() - self._gap.since
        return waited >= self._options.gap_timeout.total_seconds() and self._options.on_gap != "wait"

    def _wait_for_late_file(self, missing: OffsetRange) -> NothingYet | Gap:
        """Rule R5. A gap is judged anew at each call, for it may shrink or grow while it is waited for."""
        if self._patience_is_over():
            self._gap = None
            if self._options.on_gap == "skip":
                return Gap(offsets=missing)
            raise DataLossError(
                f"{self._tp}: offsets {missing.start} to {missing.stop - 1} are in neither store: Kafka's retention has "
                "passed them and no committed flush of the archive covers them, although later records exist. Restore the "
                f"missing flush, or go on at offset {missing.stop}, with Start.offsets(...) or on_gap='skip'."
            )
        now = self._clock.monotonic()
        gap = self._gap = self._gap or _OpenGap(since=now)
        if gap.said_at is None or now - gap.said_at >= _GAP_REMINDER_S:
            gap.said_at = now
            _LOGGER.warning(
                "%s: offsets %s are in neither store, waiting for a late file for %.0f s",
                self._tp,
                missing,
                now - gap.since,
            )
        return NothingYet(at_end=False)

    def _check_end(self, end: int) -> None:
        """Kafka's log ends here: what was archived before it was asked cannot lie above."""
        if self._seen.stop is not None and self._seen.stop > end:
            raise DataLossError(
                f"{self._tp}: the log of Kafka ends at offset {end}, the archive holds offsets up to {self._seen.stop - 1}. "
                "The topic was created anew, or cut by an unclean leader election, or this is the archive of another "
                "cluster. Read it with a stop, or give the new topic an archive of its own."
            )

    def _check_topic(self, lineage: Lineage) -> None:
        """A topic that was deleted and created again has the name, and may have the offsets, of the one read so far."""
        found = None if lineage.topic_id is None else self._kafka.topic_id(self._tp.topic)
        if found is not None and found != lineage.topic_id:
            raise DataLossError(
                f"{self._tp}: the topic was deleted and created anew (id {found}, read so far: {lineage.topic_id}). Its "
                "offsets have nothing to do with those read before: start a new job, with an archive of its own."
            )


@dataclass(slots=True)
class _OpenFlush:
    """A flush that is being read; `position` is the next offset it will give. Mutable: it is where a reader stands.

    `repeated` offsets of it were dropped, and nobody was told yet.
    """

    reader: FlushReader
    flush: Flush
    position: int
    repeated: int

    @property
    def stop(self) -> int:
        """Where it has ended, now that it has."""
        return self.reader.stop if isinstance(self.reader, MayEndEarly) else self.flush.stop


@dataclass(frozen=True, slots=True)
class _Ordered:
    """A flush that is being opened, at an offset."""

    flush: Flush
    offset: int
    opening: Opening


@dataclass(slots=True)
class _OpenGap:
    """A gap that is being waited for: since when, and when that was last said. Mutable."""

    since: float
    said_at: float | None = None


def _least(limit: int | None, other: int | None) -> int | None:
    return other if limit is None else limit if other is None else min(limit, other)


def _progress(
    batch: Batch | None,
    next_offset: int,
    start: int,
    stop: int | None,
    *,
    store: Store,
    high_watermark: int | None = None,
    leader_epoch: int | None = None,
    repeated: int = 0,
) -> Progress:
    """Progress from `start`, cut to what was asked for (archives overlap, a fetch brings whole batches)."""
    if stop is not None:
        next_offset = min(next_offset, stop)
    if batch is not None:
        batch = batch.between(start, stop)
    return Progress(
        batch=batch if batch else None,
        next_offset=next_offset,
        store=store,
        high_watermark=high_watermark,
        leader_epoch=leader_epoch,
        repeated=repeated,
    )
