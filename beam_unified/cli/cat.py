"""`beam-unified cat`: the records of a log, from anywhere to anywhere, over both stores: kcat for the unlimited log."""

import heapq
import itertools
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, BinaryIO

import click

from beam_unified.cli.formats import Render, formatted, json_lines, values
from beam_unified.cli.ranges import chosen, partition_option, prefer_option, resolved, start_option, stop_option
from beam_unified.cli.settings import Stores, store_options
from beam_unified.clock import SYSTEM_CLOCK
from beam_unified.offsets import MAX_OFFSET, OffsetRange, TopicPartition
from beam_unified.positions import duration_ms
from beam_unified.reading.reader import Gap, LogReader, NothingYet, Progress, ReadOptions
from beam_unified.reading.scan import SILENCE_S, scan
from beam_unified.records import Batch, ListBatch, Record, Store
from beam_unified.snapshots.snapshot import Snapshot
from beam_unified.stores import ArchiveLog

_BUFFER_BYTES = 1024 * 1024
_MERGED_AT_ONCE = 1_000
_WAIT_MS = 250  # of all partitions together, where there is nothing


@click.command("cat")
@click.argument("topic")
@partition_option
@start_option
@stop_option
@click.option(
    "--follow", is_flag=True, help="Do not stop at the end of the log: go on with what comes. Ctrl-C ends it."
)
@click.option("--limit", "-n", type=click.IntRange(0), help="So many records, then stop.")
@click.option("--merge", is_flag=True, help="Partitions interleaved by Kafka's timestamp, not one after the other.")
@click.option(
    "--output", "-o", type=click.Choice(["value", "json"]), default="value", show_default=True,
    help="The value and a newline, or a JSON object a line.",
)  # fmt: skip
@click.option(
    "--format", "-f", "text", metavar="FORMAT", help="kcat's: %t %p %o %k %K %s %S %T %h, %w the store; \\n \\t \\xHH."
)
@click.option("--null", "-Z", is_flag=True, help="Write NULL for a key or value that is not there.")
@prefer_option
@click.option(
    "--on-gap", type=click.Choice(["fail", "skip", "wait"]), default="fail", show_default=True,
    help="What to do about offsets that neither store has.",
)  # fmt: skip
@click.option(
    "--gap-timeout", default="0s", show_default=True, metavar="DURATION", help="How long to look for a late file first."
)
@click.option("--snapshot", metavar="FILE", help="Read what a snapshot pins, without Kafka.")
@store_options
def command(stores: Stores, topic: str, partition: Sequence[int], start: str, stop: str, **how: Any) -> None:
    """Write records to standard output, in offset order within a partition, each exactly once."""
    options = _Options(
        follow=how["follow"],
        merge=how["merge"],
        limit=how["limit"],
        render=_render(how["output"], how["text"], b"NULL" if how["null"] else b""),
        reading=ReadOptions(
            prefer=how["prefer"],
            on_gap=how["on_gap"],
            gap_timeout=timedelta(milliseconds=duration_ms(how["gap_timeout"], "--gap-timeout")),
        ),
    )
    if options.follow and (options.merge or stop != "end"):
        raise click.UsageError(
            "--follow goes on for ever: it takes no --stop, and no --merge, which waits for every partition."
        )
    pinned = None
    if how["snapshot"]:
        pinned = Snapshot.load(how["snapshot"], stores.storage_options if "://" in how["snapshot"] else None)
        stores = Stores(kafka=pinned.kafka(), archive=pinned.archive(stores.storage_options))
    with ExitStack() as stack:
        log, archive = stack.enter_context(stores.connected())
        if archive is not None:
            archive.check(topic, isolation_level=stores.kafka.isolation_level)
        ranges = dict(resolved(chosen(topic, partition, log), start, stop, log, archive))
        if pinned is not None:
            ranges = _inside(pinned, ranges)
        source = _Source(stores, archive, options.reading, stack)
        _write(_batches(source, ranges, options), options)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Options:
    follow: bool
    merge: bool
    limit: int | None
    render: Render
    reading: ReadOptions


def _render(output: str, text: str | None, null: bytes) -> Render:
    if text is not None:
        return formatted(text, null=null)
    return json_lines if output == "json" else partial(values, null=null)


def _inside(pinned: Snapshot, ranges: Mapping[TopicPartition, OffsetRange]) -> dict[TopicPartition, OffsetRange]:
    """The part of ranges that a snapshot pins: its files may hold more."""
    offsets = {one.tp: one.offsets for one in pinned.partitions}
    return {
        tp: OffsetRange(min(max(one.start, offsets[tp].start), end), end)
        for tp, one in ranges.items()
        for end in [min(one.stop, offsets[tp].stop)]
    }


@dataclass(frozen=True, slots=True)
class _Source:
    """Makes the steps of a partition; readers are closed with the stack."""

    stores: Stores
    archive: ArchiveLog | None
    options: ReadOptions
    stack: ExitStack

    def steps(
        self, tp: TopicPartition, start: int, stop: int | None, *, turns: int = 1
    ) -> Iterator[Progress | Gap | NothingYet]:
        """Of a range; gaps that are skipped are said. `turns` is how many partitions wait for each other."""
        if start == stop:
            return
        reader = LogReader(tp, self.stores.kafka.connect(), self.archive, self.options, SYSTEM_CLOCK)
        self.stack.callback(reader.close)
        patience_s = None if self.options.on_gap == "wait" else SILENCE_S + self.options.gap_timeout.total_seconds()
        timeout_ms = max(10, _WAIT_MS // turns)
        for step in scan(reader, tp, start, stop, clock=SYSTEM_CLOCK, patience_s=patience_s, timeout_ms=timeout_ms):
            if isinstance(step, Gap):
                click.echo(f"{tp}: skipped offsets {step.offsets}, which neither store has", err=True)
            yield step
        reader.close()


def _batches(
    source: _Source, ranges: Mapping[TopicPartition, OffsetRange], options: _Options
) -> Iterator[Batch | None]:
    """Batches as they are to be written; None says that there is nothing at the moment."""
    if options.merge:
        yield from _merged(source, ranges)
        return
    if not options.follow:
        for tp, offsets in ranges.items():
            for step in source.steps(tp, offsets.start, offsets.stop):
                yield step.batch if isinstance(step, Progress) else None
        return
    turns = [source.steps(tp, offsets.start, None, turns=len(ranges)) for tp, offsets in ranges.items()]
    while True:
        for steps in turns:
            step = next(steps)
            yield step.batch if isinstance(step, Progress) else None


def _merged(source: _Source, ranges: Mapping[TopicPartition, OffsetRange]) -> Iterator[Batch]:
    """By timestamp, then by partition; offset order within a partition stands, whatever its timestamps are."""
    streams = [_records(source, tp, offsets) for tp, offsets in ranges.items()]
    merged = heapq.merge(*streams, key=lambda one: (-1 if one.timestamp is None else one.timestamp, one.partition))
    for store, records in itertools.groupby(merged, key=lambda record: record.store):
        while some := list(itertools.islice(records, _MERGED_AT_ONCE)):
            yield ListBatch(some, Store(store))


def _records(source: _Source, tp: TopicPartition, offsets: OffsetRange) -> Iterator[Record]:
    for step in source.steps(tp, offsets.start, offsets.stop):
        if isinstance(step, Progress) and step.batch is not None:
            yield from step.batch.iter_records()


def _write(batches: Iterator[Batch | None], options: _Options) -> None:
    """To standard output, until the end or the limit. What was read is written before anything else is waited for."""
    left = MAX_OFFSET if options.limit is None else options.limit
    out = Buffered(sys.stdout.buffer)
    try:
        for batch in batches if left else ():
            if batch is not None:
                some = batch if len(batch) <= left else _first(batch, left)
                out.add(b"".join(options.render(some)))
                left -= len(some)
            if batch is None or options.follow:
                out.flush()
            if not left:
                return
    finally:
        out.flush()


class Buffered:
    """Writes pieces together; never one twice, whenever it is interrupted."""

    def __init__(self, out: BinaryIO) -> None:
        self._out, self._pieces, self._size = out, list[bytes](), 0

    def add(self, piece: bytes) -> None:
        """Takes a piece; writes where there is enough."""
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size >= _BUFFER_BYTES:
            self.flush()

    def flush(self) -> None:
        """Writes what was taken."""
        if self._size:
            pieces, self._pieces, self._size = self._pieces, [], 0
            self._out.write(b"".join(pieces))
            self._out.flush()


def _first(batch: Batch, count: int) -> Batch:
    return ListBatch(batch.records()[:count], batch.store)
