"""Offsets of rows in files that do not hold them: row i is offset start + i, where that is shown or said. Pure.

What shows it: as many rows as the range has offsets, between ends that the writer noted (object tags, the names of the HDFS
sink). What does not: where the next file begins. A file with a hole and one record twice would fit as well, and one that ends
early leaves a gap which looks as if it were at its end, so that every offset behind the hole is too small.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from beam_unified.archive.foreign.codecs import BadFileError
from beam_unified.archive.foreign.columns import Columns
from beam_unified.archive.foreign.layout import FileName
from beam_unified.offsets import OffsetRange


@runtime_checkable
class CountsRows(Protocol):
    """What a layout has beside `Layout` where its files may hold no offsets."""

    @property
    def counted(self) -> bool:
        """Whether they hold none, so that one without records is shorter than its name says."""
        ...

    def stop_of(self, name: FileName, after: int | None, tags: Callable[[], Mapping[str, str]]) -> int | None:
        """The offset after a file's last record; None where nothing says it. Asked for files without offsets.

        Args:
            name: What the file's name says.
            after: Where the next file of the partition begins; None for the newest.
            tags: Asks the object store for the object's tags.

        Raises:
            BadFileError: what is known of the file shows that its offsets cannot be counted.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Tags:
    """What Confluent's S3 sink notes at an object with `s3.object.tagging=true`: first and last offset, and number of records."""

    start: int
    last: int
    records: int

    @property
    def covered(self) -> OffsetRange:
        """The offsets from the first to the last."""
        return OffsetRange(self.start, self.last + 1)

    @property
    def dense(self) -> bool:
        """Whether there is a record for each offset."""
        return self.records == self.last + 1 - self.start


def parse_tags(tags: Mapping[str, str]) -> Tags | None:
    """From an object's tags; None where it has not these. Raises BadFileError where they contradict themselves."""
    wanted = [tags.get(name) for name in ("startOffset", "endOffset", "recordCount")]
    numbers = [text for text in wanted if text is not None]
    if not numbers:
        return None
    if len(numbers) < len(wanted) or not all(text.isascii() and text.isdigit() for text in numbers):
        raise BadFileError(f"its tags startOffset, endOffset and recordCount are {', '.join(map(str, wanted))}")
    start, last, records = map(int, numbers)
    if last < start or not 0 < records <= last + 1 - start:
        raise BadFileError(f"its tags say offsets {start} to {last} and {records} records")
    return Tags(start=start, last=last, records=records)


def numbered(batches: Iterable[Columns], start: int, stop: int | None) -> Iterator[Columns]:
    """Columns with offsets `start`, `start` + 1, ...

    Args:
        batches: Of one file, all of them.
        start: Offset of its first record.
        stop: Offset after its last one; None where it is not known.

    Raises:
        BadFileError: the file does not hold as many records as the range has offsets; where it has too many before the first
            one too many is given, where it has too few at its end.
    """
    at = start
    for batch in batches:
        if stop is not None and at + len(batch.values) > stop:
            raise BadFileError(
                f"it holds more than {stop - start} records, but covers offsets {start} to {stop - 1}: an offset is there twice, "
                "or the next file begins too early"
            )
        yield batch._replace(offsets=range(at, at + len(batch.values)))
        at += len(batch.values)
    if stop is not None and at < stop:
        raise BadFileError(
            f"it holds {at - start} records, but covers offsets {start} to {stop - 1}: some have no record, so which record "
            "has which offset is not known. Read these offsets from Kafka, or from a copy that stores them"
        )
