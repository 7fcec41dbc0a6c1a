"""What is known of a topic of a foreign archive: its files as last listed, and what reading them has shown.

A topic is listed once for all of its partitions. A listing that has aged is continued behind its last name, that of any partition,
where completeness is proven record by record: files that came since and sort before that name are missed until one of their records
is. All is listed anew before a gap is believed (R3), before a file is believed to have not as many records as its range, and
always where holes are allowed, for there a missing file would be taken for one.
"""

import logging
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from beam_unified.archive.foreign import batches as planning
from beam_unified.archive.foreign.batches import UNKNOWN, Bounds, DataFile, FileBatch, Shown
from beam_unified.archive.foreign.layout import Layout, is_marker
from beam_unified.archive.storage import FileInfo, Storage
from beam_unified.clock import Clock
from beam_unified.flushes import FlushIndex
from beam_unified.offsets import OffsetRange

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Seen:
    """What reading a file has shown so far; `complete` once it was read to its end."""

    info: FileInfo
    last: int
    bounds: Bounds | None
    complete: bool


class Topic:
    """One topic. Mutable, guarded by `lock`; a partition is read under its own of `reading`, so that others go on meanwhile.

    Attributes:
        files: Those that the layout knows.
        unknown: Paths that it does not.
        batches: By partition.
        indexes: What was made of them; forgotten when they change.
        missing: Per partition, what reading has found missing; forgotten when a file comes that may hold it.
        shown: What reading whole batches has shown, by partition and files.
        seen: What reading files has shown, by path.
    """

    def __init__(self, topic: str, storage: Storage, layout: Layout, refresh_s: float, clock: Clock) -> None:
        """Lists nothing yet."""
        self._topic, self._storage, self._layout = topic, storage, layout
        self._refresh_s, self._clock = refresh_s, clock
        self._asked_at: float | None = None
        self._all_at: float | None = None
        self.lock = threading.Lock()
        self.reading: dict[int, threading.Lock] = defaultdict(threading.Lock)
        self.files: dict[str, FileInfo] = {}
        self.unknown: list[str] = []
        self.batches: dict[int, tuple[FileBatch, ...]] = {}
        self.indexes: dict[int, FlushIndex] = {}
        self.missing: dict[int, set[OffsetRange]] = defaultdict(set)
        self.shown: dict[tuple[int, tuple[DataFile, ...]], Shown] = {}
        self.seen: dict[str, Seen] = {}

    @contextmanager
    def listed(self, *, refresh: bool = False) -> Iterator[None]:
        """Holds the lock, over a listing that has not aged. `refresh`: over one of everything, made since this was called.

        Threads that wait for the same listing share it.
        """
        asked_at = self._clock.monotonic()
        with self.lock:
            since = self._all_at if refresh else self._asked_at
            age = None if since is None else asked_at - since
            if age is None or (age >= 0 and (refresh or age >= self._refresh_s)):  # below 0: listed while we waited
                self._list(everything=refresh)
            yield

    def left_off(self, file: DataFile, last: int) -> None:
        """Notes that a file was read up to an offset only."""
        seen = self.seen.get(file.path)
        if seen is None or seen.info != file.info:
            self.seen[file.path] = Seen(file.info, last, UNKNOWN, complete=False)

    def _list(self, *, everything: bool) -> None:
        now, folder = self._clock.monotonic(), self._layout.folder(self._topic)
        if not everything and self.files and self._layout.completeness.max_hole == 0:
            last = max(self.files).removeprefix(f"{folder}/" if folder else "")
            found = self.files | self._below(folder, self._storage.files_after(folder, last))
        else:
            found, self._all_at = self._below(folder, self._storage.files(folder)), now
        self._asked_at = now
        self._take(found)

    def _below(self, folder: str, found: Mapping[str, FileInfo]) -> dict[str, FileInfo]:
        kept = {path: info for path, info in found.items() if not is_marker(path, self._topic)}
        return {f"{folder}/{path}" if folder else path: info for path, info in kept.items()}

    def _take(self, found: Mapping[str, FileInfo]) -> None:
        """Groups what was listed; forgets what was concluded of a partition whose files have changed."""
        by_partition, unknown, known = defaultdict[int, list[DataFile]](list), list[str](), dict[str, FileInfo]()
        for path, info in found.items():
            name = self._layout.parse(self._topic, path)
            if name is None:
                unknown.append(path)
            else:
                known[path] = info
                by_partition[name.partition].append(DataFile(path, info, name))
        if len(unknown) > len(self.unknown):
            _LOGGER.warning(
                "%d files of topic %s under %s are not named as %r has it and are not read, for example %s",
                len(unknown), self._topic, self._storage.url(""), self._layout, unknown[0],
            )  # fmt: skip
        rules = self._layout.completeness
        batches = {partition: planning.batches_of(files, rules) for partition, files in by_partition.items()}
        for partition in batches.keys() | self.batches.keys():
            if batches.get(partition) != self.batches.get(partition):
                self.indexes.pop(partition, None)
                old, new = self.batches.get(partition, ()), batches.get(partition, ())
                self.missing[partition] = planning.still_missing(self.missing[partition], old, new)
        self.files, self.batches, self.unknown = known, batches, unknown
