"""Looking for late files (A4): a running reader does so for itself, `find_late_files` for one that has ended."""

from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress

from beam_unified import late_files
from beam_unified.clock import SYSTEM_CLOCK, Clock
from beam_unified.dead_letters import GAP, DeadLetter
from beam_unified.errors import CorruptArchiveError
from beam_unified.flushes import Flush
from beam_unified.late_files import LateFile, Ranges
from beam_unified.offsets import OffsetRange, TopicPartition
from beam_unified.stores import ArchiveLog, ArchiveSource

_READ_RECORDS = 4_096


def look(archive: ArchiveLog, tp: TopicPartition, skipped: Ranges, now_ms: int) -> list[tuple[LateFile, Ranges]]:
    """What the archive holds now of what was skipped: late files, each with the offsets that it is late for.

    One new listing of the partition, or what has been announced since the last one. Files are read only where their names are no
    proof: those of other tools may reach to the next file, over a gap.
    """
    found = list(late_files.landed(archive.index(tp, refresh=True), skipped))
    if not archive.index_is_proof:
        found = _proven(archive, tp, skipped, found)
    return [
        (late_files.late_file(tp, flush, held, noticed_ms=now_ms, path=archive.url(tp, flush)), held)
        for flush, held in found
    ]


def _proven(
    archive: ArchiveLog, tp: TopicPartition, skipped: Ranges, found: list[tuple[Flush, Ranges]]
) -> list[tuple[Flush, Ranges]]:
    """Reads what a flush is said to have of what was skipped: the index learns from it, and may say so no more."""
    tried = set[OffsetRange]()
    while new := {one: flush for flush, held in found for one in held if one not in tried}:
        for offsets, flush in new.items():
            with suppress(CorruptArchiveError):  # of a file that cannot be read one is told, too
                _read(archive, tp, flush, offsets)
        tried |= new.keys()
        found = list(late_files.landed(archive.index(tp), skipped))
    return found


def _read(archive: ArchiveLog, tp: TopicPartition, flush: Flush, offsets: OffsetRange) -> None:
    reader = archive.open(tp, flush, offsets.start)
    try:
        while (batch := reader.read(_READ_RECORDS)) is not None and batch.last_offset() + 1 < offsets.stop:
            pass
    finally:
        reader.close()


def find_late_files(
    archive: ArchiveSource, gaps: Iterable[DeadLetter], *, clock: Clock = SYSTEM_CLOCK
) -> tuple[LateFile, ...]:
    """What has landed by now of gaps that were skipped: for a read that has ended, as nobody looks for it any more.

    Args:
        archive: Where to look: an `Archive`, or an `Announced`.
        gaps: The dead letters of the read; those of single records do not matter. What was told of as a late file while it ran is
            told of again.
        clock: For tests.

    Returns:
        Late files by topic, partition and offset. A gap that none of them covers is still one.

    Raises:
        StoreError: the archive, or the topic of its commits, cannot be read.
    """
    skipped = defaultdict[TopicPartition, set[OffsetRange]](set)
    for gap in gaps:
        if gap.reason == GAP:
            skipped[TopicPartition(gap.topic, gap.partition)].add(OffsetRange(gap.offset, gap.stop))
    log, found = archive.connect(), list[LateFile]()
    try:
        for tp in sorted(skipped):
            found += [late for late, _ in look(log, tp, _disjoint(skipped[tp]), clock.now_ms())]
    finally:
        log.close()
    return tuple(found)


def _disjoint(ranges: Iterable[OffsetRange]) -> Ranges:
    """In order, what overlaps or touches in one: two attempts of a runner may have left two letters of one gap."""
    joined = list[OffsetRange]()
    for one in sorted(ranges, key=lambda one: (one.start, one.stop)):
        if joined and one.start <= joined[-1].stop:
            joined[-1] = OffsetRange(joined[-1].start, max(joined[-1].stop, one.stop))
        else:
            joined.append(one)
    return tuple(joined)
