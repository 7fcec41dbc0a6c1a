"""Looking for late files (A4): a running reader does so for itself, `find_late_files` for one that has ended."""

from collections import defaultdict
from collections.abc import Iterable

from beam_unified import late_files
from beam_unified.clock import SYSTEM_CLOCK, Clock
from beam_unified.dead_letters import GAP, DeadLetter
from beam_unified.late_files import LateFile, Ranges
from beam_unified.offsets import OffsetRange, TopicPartition
from beam_unified.stores import ArchiveLog, ArchiveSource


def look(archive: ArchiveLog, tp: TopicPartition, skipped: Ranges, now_ms: int) -> list[tuple[LateFile, Ranges]]:
    """What the archive holds now of what was skipped: late files, each with the offsets that it is late for.

    One new listing of the partition, or what has been announced since the last one; no file is opened.
    """
    index = archive.index(tp, refresh=True)
    return [
        (late_files.late_file(tp, flush, held, noticed_ms=now_ms, path=archive.url(tp, flush)), held)
        for flush, held in late_files.landed(index, skipped)
    ]


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
