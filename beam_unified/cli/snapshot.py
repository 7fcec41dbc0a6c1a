"""`beam-unified snapshot`: take, show and verify a pinned part of a log (docs/snapshots.md)."""

from collections.abc import Sequence
from typing import Any

import click

from beam_unified.archive.pins import FingerprintKind, PinnedPartition
from beam_unified.cli import exits
from beam_unified.cli.output import Row, output_option, progress, show
from beam_unified.cli.settings import Stores, store_options
from beam_unified.errors import CorruptArchiveError, SnapshotChangedError
from beam_unified.position_text import parse_start, parse_stop
from beam_unified.snapshots.snapshot import Snapshot

_READ_RECORDS = 16_384


@click.group("snapshot")
def command() -> None:
    """Pin topics, offsets and archive files in a file, look at one, and ask whether the archive is still what it pins."""


@command.command("take")
@click.argument("file")
@click.argument("topics", nargs=-1, required=True, metavar="TOPIC...")
@click.option(
    "--start",
    "-s",
    default="earliest",
    show_default=True,
    metavar="POSITION",
    help="As of `cat`, by partition where offsets.",
)
@click.option(
    "--stop", "-e", default="now", show_default=True, metavar="POSITION", help="Not in it any more. Not in the future."
)
@click.option(
    "--fingerprint",
    type=click.Choice(["etag", "sha256"]),
    help="What files are told by. [default: ETags where there are]",
)
@click.option(
    "--archive-missing", is_flag=True, help="Archive first what only Kafka holds. Not beside a running archiver."
)
@output_option
@store_options
def take(stores: Stores, file: str, topics: Sequence[str], *, output: str, **how: Any) -> None:
    """Write a snapshot of topics to FILE, a path or a URL."""
    fingerprint: FingerprintKind | None = how["fingerprint"]
    snapshot = Snapshot.capture(
        stores.kafka,
        stores.real_archive("snapshot take"),
        topics,
        start=parse_start(how["start"], "--start"),
        stop=parse_stop(how["stop"], "--stop"),
        fingerprint=fingerprint,
        archive_missing=how["archive_missing"],
    )
    snapshot.save(file, _options(stores, file))
    show(map(_row, snapshot.partitions), output)


@command.command("show")
@click.argument("file")
@output_option
@store_options
def shown(stores: Stores, file: str, output: str) -> None:
    """What FILE pins, a partition each. Asks neither Kafka nor the archive."""
    show(map(_row, Snapshot.load(file, _options(stores, file)).partitions), output)


@command.command("verify")
@click.argument("file")
@click.option("--deep", is_flag=True, help="Read every pinned file, with its hash or checksums.")
@click.option("--root", metavar="URL", help="Where the archive is now, if it was moved or copied.")
@output_option
@store_options
def verified(stores: Stores, file: str, *, deep: bool, root: str | None, output: str) -> int:
    """Whether every file that FILE pins is there and unchanged, and none has come into the pinned offsets. Exit code 5 if not."""
    snapshot = Snapshot.load(file, _options(stores, file))
    archive = snapshot.archive(stores.storage_options, root=root).connect()
    problems = list[Row]()
    try:
        for topic in snapshot.topics:
            try:
                archive.check(topic, isolation_level=snapshot.isolation_level)
            except SnapshotChangedError as error:
                problems.append({"topic": topic, "partition": None, "detail": str(error)})
        with progress("reading") as advance:
            flushes = (
                [(one.tp, flush) for one in snapshot.partitions for flush in archive.index(one.tp)] if deep else []
            )
            for done, (tp, flush) in enumerate(flushes, start=1):
                try:
                    reader = archive.open(tp, flush, flush.start)
                    while reader.read(_READ_RECORDS) is not None:
                        pass
                    reader.close()
                except (SnapshotChangedError, CorruptArchiveError) as error:
                    problems.append({"topic": tp.topic, "partition": tp.partition, "detail": str(error)})
                advance(done, len(flushes))
    finally:
        archive.close()
    show(problems, output, empty=f"{file}: the archive is what it pins")
    return exits.PROBLEMS if problems else exits.DONE


def _options(stores: Stores, file: str) -> dict[str, Any] | None:
    """Storage options are for URLs: a local path takes none."""
    return dict(stores.storage_options) if "://" in file else None


def _row(one: PinnedPartition) -> Row:
    return {
        "topic": one.tp.topic,
        "partition": one.tp.partition,
        "offsets": one.offsets,
        "flushes": len(one.flushes),
        "files": sum(len(flush.parts) for flush in one.flushes),
        "bytes": sum(part.size_bytes for flush in one.flushes for part in flush.parts),
        "fingerprints": sorted({part.kind for flush in one.flushes for part in flush.parts}),
    }
