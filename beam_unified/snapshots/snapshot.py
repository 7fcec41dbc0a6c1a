"""`Snapshot`: a pinned part of the log, as a value that can be saved, loaded and read. See docs/snapshots.md."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, get_args

from beam_unified.archive.archive import Archive
from beam_unified.archive.pinned import PinnedArchive
from beam_unified.archive.pins import FingerprintKind, PinnedPartition
from beam_unified.archive.storage import Storage, holds_credentials
from beam_unified.clock import SYSTEM_CLOCK, Clock
from beam_unified.errors import ConfigError
from beam_unified.kafka.absent import AbsentKafka
from beam_unified.positions import (
    Start,
    StartPosition,
    Stop,
    StopPosition,
    check_order,
    pin_start,
    pin_stop,
)
from beam_unified.snapshots import codec
from beam_unified.snapshots.capture import CaptureOptions, capture
from beam_unified.stores import KafkaSource

Path = str | os.PathLike[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A data set: topics, the range of every partition, and the archive files that hold it.

    Two replays give identical records and event timestamps, for as long as the files are what they were; where they are
    not, a replay says so instead. It holds no records, no credentials and no address of a broker.

    Attributes:
        root: Of the archive.
        isolation_level: What the archive was written under (R4).
        partitions: By topic and number.
    """

    root: str
    isolation_level: str
    partitions: tuple[PinnedPartition, ...] = field(repr=False)

    @classmethod
    def capture(
        cls,
        kafka: KafkaSource,
        archive: Archive,
        topics: str | Sequence[str],
        *,
        start: StartPosition | None = None,
        stop: StopPosition | None = None,
        fingerprint: FingerprintKind | None = None,
        archive_missing: bool = False,
        clock: Clock = SYSTEM_CLOCK,
    ) -> "Snapshot":
        """Pins what is there now.

        Args:
            kafka: `Kafka(...)`; asked for partitions and offsets.
            archive: `Archive(...)`.
            topics: One name, or several.
            start: The first offset that either store holds by default.
            stop: `Stop.now()` by default. One in the future is refused.
            fingerprint: What tells that a data file was replaced. "etag" is free on object stores, and may change when a file
                is copied; "sha256" reads every file once, here, and again in each replay's own read, and holds for every
                copy. None: ETags where the storage has them, else SHA-256. Commit objects are always hashed.
            archive_missing: Archive first what only Kafka holds, in flushes of its own. Not beside a running archiver: its
                own flushes of the same offsets would be additional files, and each replay would say so.
            clock: For tests.

        Raises:
            ConfigError: ranges that only Kafka holds, without `archive_missing`; a stop that is still to come; options.
            DataLossError: ranges that neither store holds.
            StoreError: a store that does not answer, or has not got the topic.
        """
        names = [topics] if isinstance(topics, str) else list(topics)
        if not names or len(set(names)) < len(names):
            raise ConfigError(f"topics names at least one topic, and none twice, got {topics!r}.")
        if fingerprint not in {None, *get_args(FingerprintKind)}:
            raise ConfigError(f"fingerprint must be one of None, 'etag', 'sha256', got {fingerprint!r}.")
        now_ms = clock.now_ms()
        options = CaptureOptions(
            start=pin_start(Start.earliest() if start is None else start, now_ms),
            stop=pin_stop(Stop.now() if stop is None else stop, now_ms),
            fingerprint=fingerprint,
            archive_missing=archive_missing,
            clock=clock,
        )
        check_order(options.start, options.stop)
        partitions = capture(kafka, archive, names, options)
        return cls(root=archive.root, isolation_level=kafka.isolation_level, partitions=partitions)

    @classmethod
    def load(cls, path: Path, storage_options: Mapping[str, Any] | None = None) -> "Snapshot":
        """Reads a snapshot file.

        Args:
            path: Local path or fsspec URL.
            storage_options: Passed to fsspec.

        Raises:
            ConfigError: no such file, or not a snapshot file, or one of a later release.
            ArchiveUnavailableError: the storage does not answer.
        """
        storage, name = _place(path, storage_options)
        try:
            content = storage.get(name)
        except FileNotFoundError:
            raise ConfigError(f"there is no snapshot file {os.fspath(path)}: check the path.") from None
        root, isolation_level, partitions = codec.decode(content, os.fspath(path))
        return cls(root=root, isolation_level=isolation_level, partitions=partitions)

    def save(self, path: Path, storage_options: Mapping[str, Any] | None = None) -> None:
        """Writes a snapshot file: a whole one or none. The same snapshot gives the same bytes."""
        storage, name = _place(path, storage_options)
        storage.put(name, codec.encode(self.root, self.isolation_level, self.partitions))

    # -- what a replay reads, in the words of ReadUnified

    @property
    def topics(self) -> tuple[str, ...]:
        """Names, sorted."""
        return tuple(sorted({one.tp.topic for one in self.partitions}))

    def only(self, topics: str | Sequence[str]) -> "Snapshot":
        """The part of it that is of some topics. Raises ConfigError for one that it does not hold."""
        names = {topics} if isinstance(topics, str) else set(topics)
        if not names or names - set(self.topics):
            raise ConfigError(f"the snapshot holds topics {', '.join(self.topics)}, not {topics!r}.")
        return replace(self, partitions=tuple(one for one in self.partitions if one.tp.topic in names))

    def kafka(self) -> AbsentKafka:
        """The Kafka half: empty, and no broker needed."""
        return AbsentKafka({one.tp: one.offsets.stop for one in self.partitions}, self.isolation_level)

    def archive(self, storage_options: Mapping[str, Any] | None = None, *, root: str | None = None) -> PinnedArchive:
        """The archive half: the pinned files, compared with their pins.

        Args:
            storage_options: Passed to fsspec: credentials, endpoint. They are not in the snapshot.
            root: Where the archive is now, if it was moved or copied.
        """
        place = Archive(self.root if root is None else root, storage_options or {})
        return PinnedArchive(place, self.partitions, self.isolation_level)

    def start(self) -> StartPosition:
        """The exact offsets."""
        return Start.offsets(self._offsets("start"))

    def stop(self) -> StopPosition:
        """The exact offsets."""
        return Stop.offsets(self._offsets("stop"))

    def _offsets(self, edge: str) -> dict[str, dict[int, int]]:
        found: dict[str, dict[int, int]] = {topic: {} for topic in self.topics}
        for one in self.partitions:
            found[one.tp.topic][one.tp.partition] = getattr(one.offsets, edge)
        return found


def _place(path: Path, storage_options: Mapping[str, Any] | None) -> tuple[Storage, str]:
    """The folder of a file, and its name."""
    text = os.fspath(path)
    if holds_credentials(text):
        raise ConfigError("the path of a snapshot file holds credentials: pass them in storage_options.")
    folder, slash, name = text.rpartition("/")
    if not name:
        raise ConfigError(f"the path of a snapshot file ends with its name, for example 'pins.json', got {text!r}.")
    if not slash:
        folder = "."
    elif not folder or folder.endswith(":/"):
        folder += "/"
    return Storage(folder, storage_options or {}), name
