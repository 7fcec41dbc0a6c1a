"""Secor's archive: names, folders, SequenceFiles.

    <topic>/<folder>/.../<folder>/<generation>_<partition>_<offset, 20 digits>[.extension]

The offset is where the batch began, the same in all of its files, whatever their first record is. Folders are dates of the message
(`dt=2026-11-16/hr=07`), groups of offsets (`offset=5000000`), or whatever the message parser makes; none of them is looked at, but
for `folders_by`. Conventions: Secor's LogFilePath, OffsetTracker, Uploader and its reader-writer factories.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from beam_unified.archive.foreign.columns import Columns
from beam_unified.archive.foreign.folders import hive_time
from beam_unified.archive.foreign.layout import Completeness, FileName, Lack, OpenFile
from beam_unified.archive.foreign.sequence_file import Keys, SequenceFiles
from beam_unified.errors import ConfigError
from beam_unified.offsets import MAX_OFFSET

_NAME = re.compile(r"(?P<generation>[0-9]{1,9})_(?P<partition>[0-9]{1,9})_(?P<start>[0-9]{20})(?P<extension>\..*)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Secor:
    """Files of Secor's SequenceFile writers, below `<root>/<topic>`: Archive("s3://bucket/secor", layout=Secor()).

    Lacks: headers; with `keys="offset"` (Secor's default) also key and Kafka's timestamp, so that `timestamp_fn=KafkaTimestamp()`
    and starts by time are refused. Offsets are exact. Timestamps of a MessagePack archive that is not in folders by them are
    known by reading only: a start by time then reads the archive up to it.

    Complete is a batch that is followed by another one, or, where there are no holes, whatever is there without one (see
    `Completeness`). Secor drops the files that it has not yet uploaded when offsets jump, so a topic with holes may have gaps here.

    Traps: formats of Secor without offsets (delimited text, Parquet, ORC, Avro) cannot be read. Files of several partitions
    (`secor.upload.*` with a range of partitions in their name) neither; they are named in the log.

    Args:
        keys: What `secor.file.reader.writer.factory` writes: "offset" for SequenceFileReaderWriterFactory, "message_pack" for
            MessagePackSequenceFileReaderWriterFactory.
        hashed_path: With `secor.s3.prefix.md5hash=true`: what `secor.s3.path` is; the archive's root then is the bucket, in which
            files are at `<4 digits of a hash>/<secor.s3.path>/<topic>/...`. All of the bucket is listed.
        folders_by: "kafka" where date folders (dt=, hr=, min=, in UTC) are made of Kafka's timestamp (`kafka.useTimestamp=true`):
            starts by time then need not read earlier folders. None where they are made of something else.
        completeness: What is known about holes.

    Raises:
        ConfigError: an option that cannot work.
    """

    keys: Keys = "offset"
    hashed_path: str | None = None
    folders_by: str | None = None
    completeness: Completeness = field(default_factory=Completeness)

    def __post_init__(self) -> None:
        if self.keys not in {"offset", "message_pack"}:
            raise ConfigError(f"keys must be 'offset' or 'message_pack', got {self.keys!r}.")
        if self.folders_by not in {None, "kafka"}:
            raise ConfigError(f"folders_by must be 'kafka' or None, got {self.folders_by!r}.")
        if self.folders_by is not None and self.keys == "offset":
            raise ConfigError(
                "folders_by='kafka' without keys='message_pack': the records have no timestamp to start at."
            )
        if self.hashed_path is not None:
            object.__setattr__(self, "hashed_path", self.hashed_path.strip("/"))

    @property
    def lacks(self) -> frozenset[Lack]:
        """Headers; key and timestamp where keys are offsets."""
        return SequenceFiles(self.keys).lacks

    def folder(self, topic: str) -> str:
        """The topic's; with hashes there is none."""
        return topic if self.hashed_path is None else ""

    def parse(self, topic: str, path: str) -> FileName | None:
        """See `Layout.parse`."""
        *folders, name = path.split("/")
        match = _NAME.fullmatch(name)
        if match is None or int(match["start"]) > MAX_OFFSET:
            return None
        below = self._below(topic, folders)
        if below is None:
            return None
        times = hive_time(below) if self.folders_by == "kafka" else None
        smallest, largest = (None, None) if times is None else times
        return FileName(
            partition=int(match["partition"]),
            start=int(match["start"]),
            min_timestamp=smallest,
            max_timestamp=largest,
        )

    def read(self, path: str, open_file: OpenFile) -> Iterator[Columns]:
        """See `Layout.read`."""
        return SequenceFiles(self.keys).read(*open_file(path))

    def _below(self, topic: str, folders: list[str]) -> list[str] | None:
        """The folders below the topic's; None where it is not the topic's."""
        if self.hashed_path is None:
            return folders[1:] if folders[:1] == [topic] else None
        above = [part for part in self.hashed_path.split("/") if part]
        digest, inner = folders[:1], folders[1 : 1 + len(above)]
        of_topic = folders[1 + len(above) :]
        if inner != above or of_topic[:1] != [topic]:
            return None
        return of_topic[1:] if digest == [hashed_prefix(of_topic)] else None


def hashed_prefix(folders: list[str]) -> str:
    """Secor's prefix of a file: of the topic and the folders below it."""
    return hashlib.md5("/".join(folders).encode(), usedforsecurity=False).hexdigest()[:4]
