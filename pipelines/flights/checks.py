"""What was read, against the ledger of what was written. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from beam_unified.offsets import OffsetRange


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionResult:
    """One partition, as it was written, archived and read.

    Attributes:
        partition: Its number.
        written: Offsets that the broker acknowledged.
        archived: Offsets that are in files.
        kafka: Offsets that Kafka still holds.
        from_archive: Offsets of the records that came from files.
        from_kafka: Offsets of the records that came from Kafka.
    """

    partition: int
    written: Sequence[int]
    archived: OffsetRange
    kafka: OffsetRange
    from_archive: Sequence[int]
    from_kafka: Sequence[int]

    @property
    def handoff(self) -> int | None:
        """The first offset that was read from Kafka."""
        return min(self.from_kafka, default=None)

    @property
    def records(self) -> int:
        """Number of records read."""
        return len(self.from_archive) + len(self.from_kafka)

    @property
    def duplicates(self) -> int:
        """Records that came out once too often."""
        return self.records - len(self._read())

    @property
    def missing(self) -> int:
        """Records that were written and did not come out."""
        return len(set(self.written) - self._read())

    def problems(self) -> list[str]:
        """What is wrong; nothing, if all is well."""
        found = []
        if self.duplicates:
            found.append(f"{self.duplicates} records came out more than once")
        if self.missing:
            found.append(f"{self.missing} records are missing")
        if strangers := len(self._read() - set(self.written)):
            found.append(f"{strangers} records came out that nobody wrote")
        if self.handoff != self.archived.stop:
            found.append(f"handoff to Kafka at offset {self.handoff}, the archive ends before {self.archived.stop}")
        if (last := max(self.from_archive, default=None)) != self.archived.stop - 1:
            found.append(f"last offset from files is {last}, the archive ends before {self.archived.stop}")
        return [f"partition {self.partition}: {problem}" for problem in found]

    def _read(self) -> set[int]:
        return {*self.from_archive, *self.from_kafka}


def wrong_months(written: Mapping[int, int], read: Mapping[int, int]) -> list[str]:
    """What is wrong with flights per month."""
    return [
        f"month {month}: {read.get(month, 0)} flights, {written.get(month, 0)} were written"
        for month in sorted({*written, *read})
        if written.get(month, 0) != read.get(month, 0)
    ]
