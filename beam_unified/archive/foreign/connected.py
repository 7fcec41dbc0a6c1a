"""The connection to an archive of another tool: its index, and opening a flush. Listings are in `listing`."""

import logging
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import timedelta
from itertools import chain, pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from beam_unified.archive.foreign import batches as planning
from beam_unified.archive.foreign.batch import ColumnBatch
from beam_unified.archive.foreign.batches import UNKNOWN, Bounds, DataFile, FileBatch, Reach, Shown
from beam_unified.archive.foreign.codecs import BadFileError
from beam_unified.archive.foreign.columns import Columns
from beam_unified.archive.foreign.coverage import CountsRows, numbered
from beam_unified.archive.foreign.layout import Layout
from beam_unified.archive.foreign.listing import Seen, Topic
from beam_unified.archive.foreign.merging import MergedFlush, long_holes
from beam_unified.archive.layout import check_topic
from beam_unified.archive.storage import FileInfo, Storage
from beam_unified.clock import Clock
from beam_unified.errors import ArchiveUnavailableError, ConfigError, CorruptArchiveError
from beam_unified.flushes import Flush, FlushIndex
from beam_unified.offsets import MAX_OFFSET, OffsetRange, TopicPartition

_LOGGER = logging.getLogger(__name__)

_LOOK_BACK = 2  # batches before a gap that are opened although nothing is known of them
_WHOLE_FILE_BYTES = 64 * 1024 * 1024


class ForeignArchive:
    """The archive half of the log over files of another tool; implements `stores.ArchiveLog`. Thread safe."""

    index_is_proof = False

    def __init__(
        self,
        root: str,
        storage_options: Mapping[str, Any],
        layout: Layout,
        *,
        refresh_interval: timedelta,
        clock: Clock,
    ) -> None:
        """Talks to nobody yet."""
        self._storage, self._layout, self._rules = Storage(root, storage_options), layout, layout.completeness
        self._refresh_s, self._clock = refresh_interval.total_seconds(), clock
        self._lock = threading.Lock()
        self._topics: dict[str, Topic] = {}

    def check(self, topic: str, *, isolation_level: str, must_exist: bool = True) -> None:
        """Raises where nothing of the topic is here, nothing is named as the layout has it, or another isolation level was used."""
        stated = self._rules.isolation_level
        if stated is not None and stated != isolation_level:
            raise ConfigError(
                f"the archive {self._storage.url('')} is said to be written as {stated}, the reader is {isolation_level}: what is "
                f"seen would depend on the store. Set Kafka's isolation_level to {stated!r} (rule R4)."
            )
        there = self._topic(topic)
        with there.listed():
            if there.files or not must_exist:
                return
            where = self._storage.url(self._layout.folder(check_topic(topic)))
            if there.unknown:
                raise ArchiveUnavailableError(
                    f"no file of topic {topic!r} under {where} is named as {self._layout!r} has it, for example "
                    f"{there.unknown[0]!r}: check the layout and its options; "
                    f"detect_layout({self._storage.url('')!r}) proposes one."
                )
            raise ArchiveUnavailableError(
                f"no archive of topic {topic!r}: there is no file under {where}. Check the bucket and the folder above the topic; "
                "pass archive=None to read Kafka only."
            )

    def index(self, tp: TopicPartition, *, refresh: bool = False) -> FlushIndex:
        """The batches as flushes. Reads the newest batch, whose end no name tells, once while it is that, and the one before it."""
        there = self._topic(tp.topic)
        with there.listed(refresh=refresh):
            reading = there.reading[tp.partition]
        with reading:
            with there.lock:
                index, batches = there.indexes.get(tp.partition), there.batches.get(tp.partition, ())
                missing = frozenset(there.missing.get(tp.partition, ()))
            if index is None or refresh:
                index = FlushIndex(self._flushes(tp, there, batches, missing))
                with there.lock:
                    if there.batches.get(tp.partition, ()) == batches:
                        there.indexes[tp.partition] = index
            return index

    def open(self, tp: TopicPartition, flush: Flush, offset: int) -> MergedFlush:
        """Opens a flush at the first record >= `offset`.

        Raises:
            CorruptArchiveError: a file is damaged, gone, or not in order; when it is reached.
            ArchiveUnavailableError: the storage does not answer.
        """
        there = self._topic(tp.topic)
        with there.listed():
            batches = there.batches.get(tp.partition, ())
        place = planning.at_start(batches, flush.start)

        def missing(gap: OffsetRange) -> None:
            with there.lock:
                if there.batches.get(tp.partition, ()) != batches:
                    return  # listed anew meanwhile: what is there now may have it
                there.missing[tp.partition].add(gap)
                there.indexes.pop(tp.partition, None)
            _LOGGER.warning("%s: the archive under %s has no record of offsets %s", tp, self._storage.url(""), gap)

        return MergedFlush(
            tp,
            OffsetRange(flush.start, flush.stop),
            offset,
            () if place is None else batches[place].files,
            rows=lambda file, start, stop: self._rows(tp, there, file, start, stop),
            earlier=lambda wanted: self._earlier(there, batches[: place or 0], wanted),
            tolerates=self._rules.tolerates,
            missing=missing,
        )

    def url(self, tp: TopicPartition, flush: Flush) -> str:
        """Of the first file of the batch."""
        there = self._topic(tp.topic)
        with there.lock:
            batches = there.batches.get(tp.partition, ())
            place = planning.at_start(batches, flush.start)
            return self._storage.url("" if place is None else batches[place].files[0].path)

    def close(self) -> None:
        """Forgets what is known."""
        with self._lock:
            self._topics.clear()

    def _topic(self, topic: str) -> Topic:
        with self._lock:
            if topic not in self._topics:
                self._topics[topic] = Topic(
                    check_topic(topic), self._storage, self._layout, self._refresh_s, self._clock
                )
            return self._topics[topic]

    # -- the index; with the partition's lock held

    def _flushes(
        self,
        tp: TopicPartition,
        there: Topic,
        batches: Sequence[FileBatch],
        missing: Collection[OffsetRange],
    ) -> Iterator[Flush]:
        """Of one partition."""
        before = planning.bounds_from_before(batches, lambda batch: self._reach(there, batch))
        for place, (batch, from_before) in enumerate(zip(batches, before, strict=True)):
            if batch.start is not None and batch.stop is not None:
                covered: Sequence[OffsetRange] = (OffsetRange(batch.start, batch.stop),)
                bounds = planning.joined([self._reach(there, batch).bounds, from_before])
            elif self._rules.max_hole == 0 or self._rules.finished or batch.stop is not None:
                shown = self._show(tp, there, batch, batches[:place])
                covered, bounds = shown.runs, shown.bounds
                if self._rules.max_hole != 0:
                    bounds = planning.joined([bounds, from_before])
            else:
                continue
            if "timestamp" in self._layout.lacks:
                bounds = None
            for one in covered:
                yield from planning.flushes_of(one, missing, bounds)

    def _reach(self, there: Topic, batch: FileBatch) -> Reach:
        """What is known of a batch's records: from its names, or from having read all of it."""
        seen = [there.seen.get(file.path) for file in batch.files]
        known = [one for one, file in zip(seen, batch.files, strict=True) if one is not None and one.info == file.info]
        if len(known) < len(seen) or not all(one.complete for one in known):
            return planning.named_reach(batch)
        return Reach(max(one.last for one in known) + 1, planning.joined([one.bounds for one in known]))

    def _show(self, tp: TopicPartition, there: Topic, batch: FileBatch, before: Sequence[FileBatch]) -> Shown:
        """Reads a batch for its offsets. What earlier ones hold of them counts: those known to, and the nearest that may."""
        files, first = [*batch.files], batch.start or 0
        for earlier in self._earlier(there, before, first, unknown=1):
            files += earlier
        key = (tp.partition, tuple(files))
        if key not in there.shown:
            found = [
                piece.offset_array
                for file in files
                for piece in self._rows(tp, there, file, first, MAX_OFFSET if batch.stop is None else batch.stop)
            ]
            offsets = np.unique(np.concatenate(found)) if found else np.array([], np.int64)
            bounds = planning.joined([there.seen[file.path].bounds for file in files])
            for old in [one for one in list(there.shown) if one[:1] == key[:1] and one[1][0].name == key[1][0].name]:
                there.shown.pop(old, None)
            there.shown[key] = Shown(tuple(self._runs(offsets, batch)), bounds)
        return there.shown[key]

    def _runs(self, offsets: "np.ndarray", batch: FileBatch) -> Iterator[OffsetRange]:
        if not len(offsets):
            return
        start = int(offsets[0]) if batch.start is None else batch.start
        edges = [0, *long_holes(offsets, start, self._rules.tolerates), len(offsets)]
        for number, (one, other) in enumerate(pairwise(edges)):
            if one < other:
                last = int(offsets[other - 1]) + 1
                ends = batch.stop is not None and other == len(offsets) and self._rules.tolerates(batch.stop - last)
                yield OffsetRange(
                    start if number == 0 else int(offsets[one]), batch.stop if ends and batch.stop else last
                )

    def _earlier(
        self, there: Topic, before: Sequence[FileBatch], offset: int, unknown: int = _LOOK_BACK
    ) -> Iterator[Sequence[DataFile]]:
        """Files of earlier batches that reach to `offset` as far as is known, and of the nearest ones of which nothing is known."""
        for batch in reversed(before):
            if batch.stop is not None and all(file.name.stop is not None for file in batch.files):
                files = [file for file in batch.files if (file.name.stop or 0) > offset]
            else:
                seen = [(file, there.seen.get(file.path)) for file in batch.files]
                new = [file for file, one in seen if one is None or one.info != file.info]
                files = [file for file, one in seen if one is not None and (one.last >= offset or not one.complete)]
                files = [file for file in files if file not in new]
                if new and unknown:
                    unknown -= 1
                    files += new
            if files:
                yield files

    # -- files

    def _rows(self, tp: TopicPartition, there: Topic, file: DataFile, start: int, stop: int) -> Iterator[ColumnBatch]:
        """The records of a file in `[start, stop)`; remembers how far it goes."""
        where = f"{tp}: {self._storage.url(file.path)}"
        opened: list[pa.NativeFile] = []

        def open_file(path: str) -> tuple[pa.NativeFile, int]:
            known = there.files.get(path)
            found, size = self._open(path, self._storage.info(path) if known is None else known)
            opened.append(found)
            return found, size

        last, bounds = -1, list[Bounds | None]()
        try:
            for columns in self._numbered(tp, there, file, self._layout.read(file.path, open_file)):
                piece = _checked(tp, file, columns, last)
                if not len(piece):
                    continue
                last = piece.last_offset()
                bounds.append(_bounds_of(columns))
                kept = piece.between(start, stop)
                if len(kept):
                    yield kept
                if last >= stop:
                    there.seen[file.path] = Seen(file.info, last, UNKNOWN, complete=False)
                    return
            there.seen[file.path] = Seen(file.info, last, planning.joined(bounds), complete=True)
        except (
            GeneratorExit
        ):  # nobody wants the rest: how far it goes is not known, so later batches look into it again
            there.left_off(file, last)
            raise
        except FileNotFoundError:
            with self._lock:
                self._topics.pop(tp.topic, None)  # whoever tries again sees what is there now
            raise CorruptArchiveError(
                f"{where} was listed and is gone: somebody removed it, or a file that goes with it. Run again to read without it."
            ) from None
        except BadFileError as error:
            raise CorruptArchiveError(
                f"{where} cannot be read as {self._layout!r} has it: {error}. Restore it from a copy; without it its offsets, from "
                f"{file.name.start if file.name.start is not None else 'those'} on, are missing."
            ) from error
        finally:
            for one in opened:
                one.close()

    def _numbered(
        self, tp: TopicPartition, there: Topic, file: DataFile, found: Iterator[Columns]
    ) -> Iterator[Columns]:
        """The columns of a file with offsets, counted where it holds none."""
        first = next(found, None)
        rows = found if first is None else chain([first], found)
        if isinstance(self._layout, CountsRows):
            counted = self._layout.counted if first is None else first.offsets is None
        else:
            counted = False
        if not counted or file.name.start is None:
            yield from rows
            return
        stop, given = self._stop(tp, there, file), 0
        try:
            for columns in numbered(rows, file.name.start, stop):
                given += len(columns.values)
                yield columns
        except BadFileError:
            # Listings miss files: one that is continued those that sort before its last name, every one what came meanwhile.
            with there.listed(refresh=True):
                stop_now = self._stop(tp, there, file)
            if stop_now == stop or stop_now != file.name.start + given:
                raise

    def _stop(self, tp: TopicPartition, there: Topic, file: DataFile) -> int | None:
        """Where a file without offsets ends: by its name, its tags, or where the next one begins."""
        assert file.name.start is not None
        assert isinstance(self._layout, CountsRows)
        batches = there.batches.get(tp.partition, ())
        starts = (batch.start for batch in batches if batch.start is not None and batch.start > file.name.start)
        return self._layout.stop_of(file.name, next(starts, None), lambda: self._storage.tags(file.path))

    def _open(self, path: str, info: FileInfo) -> tuple[pa.NativeFile, int]:
        """A small file in one request, a large one piece by piece."""
        if info.size_bytes <= _WHOLE_FILE_BYTES:
            content = self._storage.get(path)
            return pa.BufferReader(content), len(content)
        return self._storage.open(path)


def _checked(tp: TopicPartition, file: DataFile, columns: Columns, last: int) -> ColumnBatch:
    """Columns as a batch. Raises BadFileError where lengths differ or offsets are not in order."""
    rows = len(columns.values)
    if any(column is not None and len(column) != rows for column in columns):
        raise BadFileError(f"its columns have different lengths: {[None if c is None else len(c) for c in columns]}")
    if columns.offsets is None:
        raise BadFileError("it holds no offsets, and its layout does not say that they can be counted")
    offsets = np.asarray(columns.offsets, dtype=np.int64)
    if rows and (int(offsets[0]) <= last or not bool((offsets[1:] > offsets[:-1]).all())):
        raise BadFileError(f"its offsets go back, near offset {int(offsets[0])}")
    return ColumnBatch(tp, offsets, columns)


def _bounds_of(columns: Columns) -> Bounds | None:
    times = [] if columns.timestamps is None else [time for time in columns.timestamps if time is not None]
    return (min(times), max(times)) if times else None
