"""Reads one flush of another tool's archive: its files merged by offset, each offset once, up to the first gap.

The files of a batch interleave (a folder per hour of the message), and may repeat what an earlier batch holds. A step of the merge
takes, from every file, the records up to the smallest "last offset" of their current pieces, as `archive.reader` does.
Where an offset is missing the batches before this one are looked into, for tools write some batches twice with other
boundaries; if none of them has it, the flush ends there, and whoever reads on meets a gap. Where holes are allowed nothing shows
that an offset is missing, so what those batches hold is merged in from the beginning.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from beam_unified.archive.foreign.batch import ColumnBatch
from beam_unified.archive.foreign.batches import DataFile
from beam_unified.offsets import OffsetRange, TopicPartition
from beam_unified.records import Batch

Rows = Callable[[DataFile, int, int], Iterator[ColumnBatch]]
"""A file's records with `start <= offset < stop`, in order, in pieces that are not empty."""

EarlierFiles = Callable[[int], Iterator[Sequence[DataFile]]]
"""The files of earlier batches that may hold an offset, batch by batch, the nearest first."""


class MergedFlush:
    """An open flush, positioned. Implements `stores.FlushReader`.

    Args:
        tp: Whose it is.
        covered: The offsets it is to give.
        offset: Where to begin.
        files: Those of its batch.
        rows: How a file is read.
        earlier: Where to look for what is missing.
        tolerates: Whether so many offsets in a row may be without a record.
        missing: Told of a gap at which the flush ends.
    """

    def __init__(
        self,
        tp: TopicPartition,
        covered: OffsetRange,
        offset: int,
        files: Sequence[DataFile],
        *,
        rows: Rows,
        earlier: EarlierFiles,
        tolerates: Callable[[int], bool],
        missing: Callable[[OffsetRange], None],
    ) -> None:
        self._tp, self._covered, self._files = tp, covered, files
        self._rows, self._earlier, self._tolerates, self._missing = rows, earlier, tolerates, missing
        self._next = offset
        self._streams: list[Iterator[ColumnBatch]] = []
        self._current: ColumnBatch | None = None
        self._pieces = self._run()
        self.stop = covered.stop

    def read(self, max_records: int) -> Batch | None:
        """The next records; None at the end, which is `stop`."""
        found = next(self._pieces, None) if self._current is None else self._current
        if found is None:
            return None
        self._current = found.slice(max_records, len(found)) if len(found) > max_records else None
        return found.slice(0, max_records)

    def close(self) -> None:
        """Closes the files."""
        self._pieces, self._current = iter(()), None
        while self._streams:
            _close(self._streams.pop())

    def _run(self) -> Iterator[ColumnBatch]:
        """Goes on until what is covered has been given, or something is missing that nobody has."""
        files = [*self._files]
        if self._tolerates(
            1
        ):  # a hole may be one of this batch only: an earlier one that reaches further has the records
            files += chain.from_iterable(self._earlier(self._next))
        pieces = merge([self._stream(file, self._next) for file in files])
        while True:
            held = yield from self._until_missing(pieces)
            expected = self._next
            until = self._covered.stop if held is None else int(held.offset_array[0])
            if held is None and self._tolerates(until - expected):
                return
            more = self._found_earlier(expected)
            if more is None:
                self.stop = expected
                self._missing(OffsetRange(expected, until))
                return
            pieces = merge([*([] if held is None else [chain([held], pieces)]), more])

    def _until_missing(self, pieces: Iterator[ColumnBatch]) -> Generator[ColumnBatch, None, ColumnBatch | None]:
        """Passes on what follows without a hole; returns what is behind one, or None at the end."""
        for piece in pieces:
            whole = self._whole(piece.offset_array, self._next)
            if whole:
                self._next = int(piece.offset_array[whole - 1]) + 1
                yield piece.slice(0, whole)
            if whole < len(piece):
                return piece.slice(whole, len(piece))
        return None

    def _whole(self, offsets: "np.ndarray", expected: int) -> int:
        """How many of the records come before the first hole that is too long."""
        if int(offsets[-1]) - expected == len(offsets) - 1 or self._tolerates(int(offsets[-1]) - expected):
            return len(offsets)
        at = long_holes(offsets, expected, self._tolerates)
        return at[0] if at else len(offsets)

    def _found_earlier(self, offset: int) -> Iterator[ColumnBatch] | None:
        """The records from `offset` on of the nearest earlier batch that goes on there; None where none does."""
        for files in self._earlier(offset):
            streams = [self._stream(file, offset) for file in files]
            pieces = merge(streams)
            first = next(pieces, None)
            if first is not None and self._tolerates(int(first.offset_array[0]) - offset):
                return chain([first], pieces)
            for stream in streams:
                self._streams.remove(stream)
                _close(stream)
        return None

    def _stream(self, file: DataFile, offset: int) -> Iterator[ColumnBatch]:
        stream = self._rows(file, offset, self._covered.stop)
        self._streams.append(stream)
        return stream


def long_holes(offsets: "np.ndarray", expected: int, tolerates: Callable[[int], bool]) -> list[int]:
    """Where, in increasing offsets that should begin at `expected`, a hole comes that is too long."""
    holes = np.diff(offsets, prepend=expected - 1) - 1
    return [at for at in np.flatnonzero(holes).tolist() if not tolerates(int(holes[at]))]


def _close(stream: Iterator[ColumnBatch]) -> None:
    close = getattr(stream, "close", None)  # of a generator: its `finally` closes the file
    if close is not None:
        close()


@dataclass(slots=True)
class _Head:
    """A stream of the merge and the piece it stands at."""

    stream: Iterator[ColumnBatch]
    piece: ColumnBatch


def merge(streams: Sequence[Iterator[ColumnBatch]]) -> Iterator[ColumnBatch]:
    """Records of all streams by offset, each offset once."""
    if len(streams) == 1:
        yield from streams[0]
        return
    heads = [_Head(stream, piece) for stream in streams if (piece := next(stream, None)) is not None]
    while heads:
        horizon = min(head.piece.last_offset() for head in heads) + 1
        taken: list[ColumnBatch] = []
        left: list[_Head] = []
        for head in heads:
            cut = int(head.piece.offset_array.searchsorted(horizon))
            if cut:
                taken.append(head.piece.slice(0, cut))
            rest = head.piece.slice(cut, len(head.piece)) if cut < len(head.piece) else next(head.stream, None)
            if rest is not None:
                left.append(_Head(head.stream, rest))
        heads = left
        yield taken[0] if len(taken) == 1 else ColumnBatch.merged(taken)
