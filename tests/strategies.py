"""Hypothesis strategies of the domain: flushes, records, restrictions, watermark states, and scripted worlds.

A `World` is a partition built by events: records, holes, compaction, flushes (overlapping ones too), retention. It knows
what a perfect reader of it must see, worked out from a plain list, never by asking the code under test.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from hypothesis import strategies as st

from beam_unified.flushes import Flush, FlushIndex
from beam_unified.offsets import OffsetRange, TopicPartition
from beam_unified.records import Record, Store, TimestampType
from beam_unified.source.restriction import LogRestriction
from beam_unified.stores import ArchiveLog, FlushReader
from beam_unified.testing import InMemoryLog
from beam_unified.watermarks import IdlePolicy, WatermarkState

TOPIC = "pins"
TP = TopicPartition(TOPIC, 0)

INT64 = st.integers(-(2**63), 2**63 - 1)
OFFSETS = st.integers(0, 2**63 - 1)
MICROS = st.integers(-(2**50), 2**50)

# -- flushes


@st.composite
def flushes(draw: st.DrawFn, highest: int = 40) -> Flush:
    """One flush somewhere in [0, highest), with or without timestamps."""
    start = draw(st.integers(0, highest - 1))
    stop = draw(st.integers(start + 1, highest))
    times = draw(st.none() | st.tuples(st.integers(0, 100), st.integers(0, 100)))
    return Flush(start, stop, *((None, None) if times is None else sorted(times)))


def flush_lists(highest: int = 40) -> st.SearchStrategy[list[Flush]]:
    """Flushes of one partition: any order, gaps, overlaps; no two with the same range (a retry writes the same)."""
    return st.lists(flushes(highest), max_size=8, unique_by=lambda flush: (flush.start, flush.stop))


# -- values that are written down

_HEADERS = st.lists(st.tuples(st.text(max_size=8), st.none() | st.binary(max_size=8)), max_size=3).map(tuple)


@st.composite
def records(draw: st.DrawFn) -> Record:
    """Any record that Kafka can hold."""
    timestamp = draw(st.none() | INT64)
    return Record(
        key=draw(st.none() | st.binary(max_size=16)),
        value=draw(st.none() | st.binary(max_size=64)),
        headers=draw(_HEADERS),
        topic=draw(st.text(min_size=1, max_size=20)),
        partition=draw(st.integers(0, 2**31 - 1)),
        offset=draw(OFFSETS),
        timestamp=timestamp,
        timestamp_type=None if timestamp is None else draw(st.none() | st.sampled_from(TimestampType)),
        store=draw(st.sampled_from(Store)).value,
    )


@st.composite
def restrictions(draw: st.DrawFn) -> LogRestriction:
    """Any restriction: without an end, to an offset, to an instant, a piece of an unordered partition."""
    start = draw(OFFSETS)
    edges = sorted(draw(st.sets(st.integers(0, start), max_size=8)))
    kind = draw(st.sampled_from(("unbounded", "offset", "piece", "instant")))
    return LogRestriction(
        start=start,
        stop=draw(st.integers(start, 2**63 - 1)) if kind in {"offset", "piece"} else None,
        stop_before_ms=draw(INT64) if kind == "instant" else None,
        initial_watermark=draw(st.none() | INT64),
        known_end=draw(OFFSETS),
        topic_id=draw(st.none() | st.text(max_size=30)),
        leader_epoch=draw(st.none() | st.integers(0, 2**31 - 1)),
        skipped=tuple(OffsetRange(first, stop) for first, stop in zip(edges[::2], edges[1::2], strict=False)),
        splittable=kind == "piece",
    )


def watermark_states() -> st.SearchStrategy[WatermarkState]:
    """Any state."""
    return st.builds(
        WatermarkState,
        reported=st.none() | MICROS,
        earned=st.none() | MICROS,
        idle_since_ms=st.none() | st.integers(0, 2**40),
    )


def idle_policies() -> st.SearchStrategy[IdlePolicy]:
    """Any policy."""
    return st.builds(IdlePolicy, advance=st.booleans(), timeout_ms=st.integers(0, 60_000))


# -- worlds


@dataclass
class World:
    """A scripted partition.

    Attributes:
        log: The log, with its scripts set.
        start: Where to read from.
        stop: Where to stop.
        expected: Every record that was ever readable, by offset: what a perfect reader gives.
        moves: Whether the world changes while it is read.
    """

    log: InMemoryLog
    start: int
    stop: int
    expected: dict[int, Record]
    moves: bool = False
    story: list[str] = field(default_factory=list)

    def __repr__(self) -> str:
        return f"World({'; '.join(self.story)}; read [{self.start}, {self.stop}))"

    def wanted(self, stop: int | None = None) -> list[Record]:
        """What a reader from `start` must give up to `stop`."""
        limit = self.stop if stop is None else stop
        return [self.expected[offset] for offset in sorted(self.expected) if self.start <= offset < limit]

    def in_a_store(self, offset: int) -> bool:
        """Whether one of the two stores answers for an offset, as the world is now; by looking at every flush."""
        held = self.log.kafka.bounds(TP)
        return offset >= held.start or any(f.start <= offset < f.stop for f in self.log.archive.index(TP))

    def first_missing(self) -> int | None:
        """The first wanted offset that neither store has, as the world is now."""
        return next((offset for offset in range(self.start, self.stop) if not self.in_a_store(offset)), None)


@st.composite
def worlds(draw: st.DrawFn, *, moving: bool = False) -> World:
    """A partition with holes, compaction, flushes and retention; with `moving`, some of it while it is read."""
    log = InMemoryLog(TOPIC)
    story: list[str] = []
    for kind, count in draw(st.lists(st.tuples(st.sampled_from("rrrh"), st.integers(1, 6)), min_size=1, max_size=8)):
        if kind == "h":
            log.hole(0, count)
        for _ in range(count if kind == "r" else 0):
            log.append(0, b"x", timestamp=draw(st.integers(0, 50)), key=b"k%d" % len(story))
        story.append(f"{'hole' if kind == 'h' else 'append'} {count}")
    end = log.kafka.bounds(TP).stop
    if compacted := draw(st.sets(st.integers(0, end - 1), max_size=3)):
        log.compact(0, *compacted)
        story.append(f"compact {sorted(compacted)}")
    expected = {record.offset: record for record in log.records(0)}
    flushed = []
    for low, high in draw(st.lists(st.tuples(st.integers(0, end), st.integers(0, end)), max_size=5)):
        if low != high:
            flushed.append(log.flush(0, min(low, high), max(low, high)))
            story.append(f"flush [{min(low, high)}, {max(low, high)})")
    if draw(st.booleans()):
        archived = log.archive.index(TP)
        log_start = draw(st.integers(0, end) if draw(st.booleans()) else st.integers(0, archived.stop or 0))
        log.expire(0, log_start)
        story.append(f"expire {log_start}")
    start = draw(st.integers(0, end))
    world = World(log, start, draw(st.integers(start, end)), expected, moving, story)
    if moving:
        _script(draw, world, end, flushed)
    return world


def _script(draw: st.DrawFn, world: World, end: int, flushed: list[Flush]) -> None:
    """Retention that passes while we read, and a flush that lands only when a reader has come to it."""
    log = world.log
    for at, log_start in draw(st.lists(st.tuples(st.integers(0, end), st.integers(0, end)), max_size=3)):
        log.when_asked(0, at, log.expire, 0, log_start)
        world.story.append(f"at {at} expire {log_start}")
    if flushed and draw(st.sampled_from((True, False))):
        late: Flush = draw(st.sampled_from(flushed))
        if late in set(log.archive.index(TP)):
            kept = log.remove(0, late)
            log.when_asked(0, late.start, log.restore, 0, late, kept)
            world.story.append(f"at {late.start} restore {late}")


@dataclass
class CachedListing:
    """An archive whose listing is as old as the last `refresh`, as a real one's is. `open` always works."""

    archive: ArchiveLog
    _listed: dict[TopicPartition, FlushIndex] = field(default_factory=dict)

    @property
    def index_is_proof(self) -> bool:
        """As the archive behind."""
        return self.archive.index_is_proof

    def check(self, topic: str, *, isolation_level: str, must_exist: bool = True) -> None:
        """As the archive behind."""
        self.archive.check(topic, isolation_level=isolation_level, must_exist=must_exist)

    def index(self, tp: TopicPartition, *, refresh: bool = False) -> FlushIndex:
        """The listing of the first question, until somebody asks for a new one."""
        if refresh or tp not in self._listed:
            self._listed[tp] = self.archive.index(tp, refresh=True)
        return self._listed[tp]

    def open(self, tp: TopicPartition, flush: Flush, offset: int) -> FlushReader:
        """As the archive behind."""
        return self.archive.open(tp, flush, offset)

    def url(self, tp: TopicPartition, flush: Flush) -> str:
        """As the archive behind."""
        return self.archive.url(tp, flush)

    def close(self) -> None:
        """As the archive behind."""
        self.archive.close()


def without_store(records_: list[Record]) -> Iterator[Record]:
    """Records as they are wherever they were read: two reads may differ in `store` and in nothing else (R9)."""
    return (record._replace(store="") for record in records_)
