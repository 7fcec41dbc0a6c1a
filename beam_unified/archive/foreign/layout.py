"""What another tool's archive must tell to be read here: `Layout`. Values and names only; no input or output.

    Archive("s3://bucket/secor", layout=Secor())

To add a layout, write a frozen dataclass with what `Layout` asks for: which folder a topic's files are in, what a file's name
says, how a file is read, and what it lacks. All else is done for every layout alike, in three modules beside this one:
`batches` groups files into flushes, `merging` reads one, `connected` lists, caches, and names files in errors.

**When is a part of such an archive complete?** No tool but ours writes a commit. What proves completeness is the offsets
themselves: Kafka's are dense unless there are transactions, compaction, or a tool that drops records. So by default every offset
must be there, and one that is not is a gap (rule R5), wherever it is: inside of a file, where a file was deleted, or before the
next batch. A user whose topic has holes says how long they are: `Completeness`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import pyarrow as pa

from beam_unified.archive.foreign.columns import Columns
from beam_unified.errors import ConfigError

Lack = Literal["key", "timestamp", "headers"]
"""What a layout may not hold of a record."""

LACKS: tuple[Lack, ...] = ("key", "timestamp", "headers")

OpenFile = Callable[[str], tuple[pa.NativeFile, int]]
"""Path below the archive's root -> the file, seekable, at its beginning, and its size in bytes. Raises FileNotFoundError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileName:
    """What the name of a data file says. What it does not say is None.

    Attributes:
        partition: Number of the partition.
        start: Offset at which the batch begins that the file belongs to; all files of a batch carry the same. Need not be that
            of a record in it.
        stop: Offset after the last one of the batch. Of `start` and `stop` at least one is there.
        min_timestamp: No record of the file has a smaller Kafka timestamp, milliseconds.
        max_timestamp: Nor a larger one.
    """

    partition: int
    start: int | None = None
    stop: int | None = None
    min_timestamp: int | None = None
    max_timestamp: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Completeness:
    """What the archive's owner knows about holes: offsets without a record. The default is that there are none.

    With the default a gap cannot hide: every offset is there or is missed. It also shows that there were no transactions, of which
    each leaves a hole, so that `isolation_level` makes no difference, but for one that was open where the archive ends.

    Traps: up to `max_hole` offsets that are lost are taken for a hole. With None even a whole batch that was deleted is. Then, and
    with any hole allowed, the newest batch of a partition is not taken for complete (some of its files may still be on
    their way) and is read from Kafka, unless `finished` says that nothing will come any more.

    Attributes:
        max_hole: So many offsets in a row may be without a record: 1 or 2 for topics with transactions (their markers; more where
            some are aborted), more for compacted ones. None is any number.
        isolation_level: What the tool's consumer saw, "read_committed" or "read_uncommitted" (Kafka's default, and that of
            Secor and Connect); must be said where holes are allowed, and be that of the reader (R4).
        finished: Nothing is written to the archive any more.

    Raises:
        ConfigError: an option that cannot work.
    """

    max_hole: int | None = 0
    isolation_level: str | None = None
    finished: bool = False

    def __post_init__(self) -> None:
        if self.max_hole is not None and (type(self.max_hole) is not int or self.max_hole < 0):
            raise ConfigError(f"max_hole is a number of offsets, 0 or more, or None for any, got {self.max_hole!r}.")
        if self.isolation_level not in {None, "read_committed", "read_uncommitted"}:
            raise ConfigError(
                f"isolation_level must be 'read_committed' or 'read_uncommitted', got {self.isolation_level!r}."
            )
        if self.max_hole != 0 and self.isolation_level is None:
            raise ConfigError(
                "a topic with holes may have transactions, and the archive does not record what its writer saw of them: add "
                "isolation_level='read_uncommitted' (the default of Secor and of Kafka Connect) or 'read_committed'."
            )

    def tolerates(self, hole: int) -> bool:
        """Whether so many offsets in a row may be without a record."""
        return self.max_hole is None or hole <= self.max_hole


@runtime_checkable
class Layout(Protocol):
    """How another tool names its files, and what is in them. Frozen, picklable."""

    @property
    def lacks(self) -> frozenset[Lack]:
        """What its records do not have; asked for, it is an error when the pipeline is built (rule A3)."""
        ...

    @property
    def completeness(self) -> Completeness:
        """What its owner knows about holes."""
        ...

    def folder(self, topic: str) -> str:
        """The folder, relative to the archive's root, below which every file of the topic is; "" for the root."""
        ...

    def parse(self, topic: str, path: str) -> FileName | None:
        """What a path relative to the archive's root says; None where it is no data file of the topic.

        Markers and temporary files (see `is_marker`) are not asked about.
        """
        ...

    def read(self, path: str, open_file: OpenFile) -> Iterator[Columns]:
        """The records of a file, in the order of their offsets.

        Where the file holds no offsets the column is None, and record n is taken for offset `FileName.start` + n: only a layout
        whose user has said so (`dense=True`) may do that. Raises BadFileError over damaged bytes; what `open_file` raises passes.
        """
        ...


@runtime_checkable
class Format(Protocol):
    """What is in a file, for layouts that take any: `Template`. Frozen, picklable."""

    @property
    def lacks(self) -> frozenset[Lack]:
        """What its records do not have."""
        ...

    @property
    def counted(self) -> bool:
        """Whether it holds no offsets, so that they must be counted from the file's start on."""
        ...

    def read(self, file: pa.NativeFile, size_bytes: int, /) -> Iterator[Columns]:
        """The records of a file, in order. Raises BadFileError over damaged bytes."""
        ...


_MARKER_FOLDERS = {"_temporary", "_spark_metadata", "_delta_log"}


def is_marker(path: str, topic: str | None = None) -> bool:
    """Whether a path, relative to a topic's folder, is one that Hadoop's tools leave beside data: hidden, temporary, a checksum.

    What folders are named by, and the name of a file that begins with its topic, may begin with "_" or ".": those are data.
    """
    *folders, name = path.split("/")
    hidden = name.startswith((".", "_")) and (topic is None or not name.startswith(topic))
    return hidden or name == "" or name.endswith(".crc") or not _MARKER_FOLDERS.isdisjoint(folders)
