"""Which store serves which stretch of a range, and where archived flushes overlap. Pure.

`stretches` says what a reader would do, by asking what it would ask (`reading.choice`), as of one look at both stores.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from beam_unified.flushes import Flush, FlushIndex
from beam_unified.offsets import OffsetRange
from beam_unified.reading.choice import FromArchive, FromKafka, Missing, Prefer, choose


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of a range.

    Attributes:
        offsets: Never empty.
        served: By a flush, by Kafka, or by nobody.
    """

    offsets: OffsetRange
    served: FromArchive | FromKafka | Missing


def stretches(
    offsets: OffsetRange, *, index: FlushIndex, held: OffsetRange, prefer: Prefer = "archive"
) -> tuple[Stretch, ...]:
    """What a reader of a range would read where, in order. What lies beyond both stores' ends is left out.

    Args:
        offsets: The range.
        index: The archive's.
        held: What Kafka holds.
        prefer: As the reader's.
    """
    found, at = list[Stretch](), offsets.start
    end = min(offsets.stop, max(held.stop, index.stop or 0))
    while at < end:
        in_kafka = at in held
        choice = choose(at, index=index, not_in_kafka=None if in_kafka else held, prefer=prefer)
        served: FromArchive | FromKafka | Missing
        match choice:
            case FromArchive(flush):
                stop = min(flush.stop, held.start) if prefer == "kafka" and at < held.start else flush.stop
                served = choice
            case FromKafka() if in_kafka:
                stop, served = held.stop, choice
            case Missing(missing):
                stop, served = missing.stop, choice
            case _:  # between the end of Kafka's log and a flush: a reader says that the log was truncated
                stop = index.next_start(at) or end
                served = Missing(OffsetRange(at, stop))
        stop = min(stop, end)
        if isinstance(served, Missing):
            served = Missing(OffsetRange(at, stop))
        found.append(Stretch(OffsetRange(at, stop), served))
        at = stop
    return tuple(found)


def gaps(found: Iterable[Stretch]) -> tuple[OffsetRange, ...]:
    """The stretches that neither store has, neighbours as one."""
    merged = list[OffsetRange]()
    for one in found:
        if isinstance(one.served, Missing):
            if merged and merged[-1].stop == one.offsets.start:
                merged[-1] = OffsetRange(merged[-1].start, one.offsets.stop)
            else:
                merged.append(one.offsets)
    return tuple(merged)


def overlaps(index: FlushIndex) -> tuple[tuple[Flush, Flush], ...]:
    """Pairs of flushes that cover the same offset: each flush with the one before it that reaches furthest."""
    found, furthest = list[tuple[Flush, Flush]](), None
    for flush in index:
        if furthest is not None and flush.start < furthest.stop:
            found.append((furthest, flush))
        furthest = flush if furthest is None or flush.stop > furthest.stop else furthest
    return tuple(found)
