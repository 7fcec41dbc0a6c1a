"""Files of another tool -> batches -> flushes. Pure.

A batch is what the tool wrote between two of its own commits: the files that carry the same start, in as many folders as
its records were sorted into. Its end is what the names say; where they do not, it is where the next batch begins; that of the
newest one is known by reading only. What reading has shown to be missing is cut out, so that the gap rule sees it.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from beam_unified.archive.foreign.layout import Completeness, FileName
from beam_unified.archive.storage import FileInfo
from beam_unified.flushes import Flush
from beam_unified.offsets import OffsetRange

Bounds = tuple[int, int]
"""Smallest and largest Kafka timestamp, milliseconds; there may be none at either, but none beyond."""

UNKNOWN: Bounds = (-(2**63), 2**63 - 1)


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file as listed."""

    path: str
    info: FileInfo
    name: FileName


@dataclass(frozen=True, slots=True)
class FileBatch:
    """Files that were written together.

    Attributes:
        start: First offset covered; None where only reading tells.
        stop: Offset after the last one covered; None where only reading tells.
        files: By path.
    """

    start: int | None
    stop: int | None
    files: tuple[DataFile, ...]


@dataclass(frozen=True, slots=True)
class Reach:
    """What is known of the records of a batch.

    Attributes:
        stop: No offset of them is as large; None where that is not known.
        bounds: Of their timestamps.
    """

    stop: int | None
    bounds: Bounds | None


@dataclass(frozen=True, slots=True)
class Shown:
    """What reading a batch has shown: ranges without a hole that is too long, and its timestamps."""

    runs: tuple[OffsetRange, ...]
    bounds: Bounds | None


def batches_of(files: Iterable[DataFile], rules: Completeness) -> tuple[FileBatch, ...]:
    """Groups the files of one partition; batches by start. The newest has no stop, and one without a start may come first."""
    by_start, by_stop = defaultdict[int, list[DataFile]](list), defaultdict[int, list[DataFile]](list)
    for file in sorted(files, key=lambda file: file.path):
        if file.name.start is not None:
            by_start[file.name.start].append(file)
        elif file.name.stop is not None:
            by_stop[file.name.stop].append(file)
    stops = sorted(by_stop)
    starts: list[int | None] = [None, *stops]  # a tool that names the ends goes on where it stopped
    ended = [FileBatch(start, stop, tuple(by_stop[stop])) for start, stop in zip(starts, stops, strict=False)]
    begun = sorted(by_start)
    nexts: list[int | None] = [*begun[1:], None]
    return (*ended, *(_begun(start, after, by_start[start], rules) for start, after in zip(begun, nexts, strict=False)))


def _begun(start: int, after: int | None, files: Sequence[DataFile], rules: Completeness) -> FileBatch:
    named = [file.name.stop for file in files if file.name.stop is not None]
    if len(named) < len(files):
        return FileBatch(start, after, tuple(files))
    stop = max(named)
    hole = None if after is None else after - stop
    if after is not None and hole is not None and hole > 0 and rules.tolerates(hole):
        stop = after
    return FileBatch(start, stop, tuple(files))


def flushes_of(covered: OffsetRange, missing: Iterable[OffsetRange], bounds: Bounds | None) -> list[Flush]:
    """A batch as flushes: what it covers without what reading has shown to be missing."""
    smallest, largest = (None, None) if bounds is None else bounds
    found, at = list[Flush](), covered.start
    for gap in sorted(missing, key=lambda gap: gap.start):
        if at < min(gap.start, covered.stop):
            found.append(Flush(at, min(gap.start, covered.stop), smallest, largest))
        at = max(at, gap.stop)
    if at < covered.stop:
        found.append(Flush(at, covered.stop, smallest, largest))
    return found


def still_missing(
    missing: Iterable[OffsetRange], old: Iterable[FileBatch], new: Iterable[FileBatch]
) -> set[OffsetRange]:
    """Of what was missing when `old` was listed, what no file that is in `new` only can hold, whatever is in it."""
    known = {file for batch in old for file in batch.files}
    came = [(batch.start or 0, file.name.stop) for batch in new for file in batch.files if file not in known]
    return {
        gap
        for gap in missing
        if not any(start < gap.stop and (stop is None or stop > gap.start) for start, stop in came)
    }


def bounds_of(batch: FileBatch) -> Bounds:
    """What the names say about a batch's timestamps: the widest bounds of its files."""
    smallest = [file.name.min_timestamp for file in batch.files]
    largest = [file.name.max_timestamp for file in batch.files]
    if any(one is None for one in (*smallest, *largest)):
        return UNKNOWN
    return min(one for one in smallest if one is not None), max(one for one in largest if one is not None)


def named_reach(batch: FileBatch) -> Reach:
    """What the names say about a batch's records."""
    stops = [file.name.stop for file in batch.files if file.name.stop is not None]
    return Reach(max(stops) if len(stops) == len(batch.files) else None, bounds_of(batch))


def bounds_from_before(batches: Iterable[FileBatch], reach: Callable[[FileBatch], Reach]) -> Iterator[Bounds | None]:
    """For each batch, the bounds of what earlier ones may hold of its offsets: whoever reads it may be given that, too.

    `reach` is asked about a batch after its bounds were given, so that reading it in between counts.
    """
    reaching, unknown = list[Reach](), None
    for batch in batches:
        reaching = [one for one in reaching if one.stop is not None and one.stop > (batch.start or 0)]
        yield joined([unknown, *(one.bounds for one in reaching)])
        own = reach(batch)
        if own.stop is None:
            unknown = joined([unknown, own.bounds])
        else:
            reaching.append(own)


def joined(bounds: Iterable[Bounds | None]) -> Bounds | None:
    """The smallest bounds around all of these."""
    known = [one for one in bounds if one is not None]
    return (min(one[0] for one in known), max(one[1] for one in known)) if known else None


def at_start(batches: Sequence[FileBatch], offset: int) -> int | None:
    """The place of the last batch that begins at or before an offset; None where there is none."""
    found = [place for place, batch in enumerate(batches) if (batch.start or 0) <= offset]
    return found[-1] if found else None
