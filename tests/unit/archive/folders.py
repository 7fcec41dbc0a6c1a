"""Archives to break, and file systems that fail, for the tests of this folder."""

import io
import json
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.memory import MemoryFileSystem

from beam_unified.archive.archive import Archive
from beam_unified.archive.commits import Commit
from beam_unified.archive.rows import table_of
from beam_unified.archive.writer import write_flush
from beam_unified.offsets import TopicPartition
from beam_unified.records import Record, TimestampType

TP = TopicPartition("pins", 3)
T0 = 1_794_830_400_000
HOUR_MS = 3_600_000


def record(offset: int, timestamp: int | None = T0, tp: TopicPartition = TP) -> Record:
    """A record whose value says where it is."""
    kind = None if timestamp is None else TimestampType.CREATE_TIME
    return Record(None, b"%d" % offset, (), tp.topic, tp.partition, offset, timestamp, kind, "archive")


def read(archive: Archive, offset: int = 0, *, tp: TopicPartition = TP, max_records: int = 100) -> list[Record]:
    """Everything in the archive's only flush from `offset` on."""
    log, found = archive.connect(), list[Record]()
    (flush,) = log.index(tp)
    reader = log.open(tp, flush, offset)
    try:
        while (batch := reader.read(max_records)) is not None:
            found += batch.records()
    finally:
        reader.close()
        log.close()
    return found


class Broken:
    """One flush of ten records in two hours, to be damaged. Offsets 100 to 109, the even ones in the first hour."""

    def __init__(self, folder: str) -> None:
        self.archive = Archive(folder)
        self.records = [record(offset, T0 + (offset % 2) * HOUR_MS) for offset in range(100, 110)]
        self.commit: Commit = write_flush(self.archive, TP, self.records, start=100, stop=112)
        self.files, root = self.archive.file_system()
        self.paths = [f"{root}/{TP.topic}/{part.path}" for part in self.commit.parts]
        (self.commit_path,) = self.files.ls(f"{root}/{TP.topic}/_commits/{TP.partition}", detail=False)

    def edit_rows(self, part: int, edit: Callable[[pa.Table], pa.Table], **options: object) -> None:
        """Rewrites a part with other rows."""
        rows = self.records[part::2]
        self.replace(part, edit(table_of(TP, rows)), **options)

    def replace(self, part: int, table: pa.Table, **options: object) -> None:
        """Puts other rows in the place of a part, and its size into the commit, so that a later check is met."""
        content = io.BytesIO()
        pq.write_table(table, content, compression="zstd", row_group_size=2, **options)
        self.files.pipe_file(self.paths[part], content.getvalue())
        self.edit_commit(lambda document: document["parts"][part].update(size_bytes=len(content.getvalue())))

    def edit_commit(self, edit: Callable[[dict[str, Any]], object]) -> None:
        """Changes the commit object."""
        document = json.loads(self.files.cat_file(self.commit_path))
        edit(document)
        self.files.pipe_file(self.commit_path, json.dumps(document).encode())


class FailingFiles(MemoryFileSystem):
    """A file system whose calls fail as told; a protocol of its own, so that nobody else's files are in it."""

    protocol = "failing"
    cachable = False
    store: dict[str, Any] = {}  # noqa: RUF012 - as in the class above
    pseudo_dirs = [""]  # noqa: RUF012
    failures: dict[str, Exception] = {}  # noqa: RUF012 - method -> what it raises
    calls: list[tuple[str, str]] = []  # noqa: RUF012 - (method, path)

    def ls(self, path, detail=True, **kwargs):
        self._met("ls", path)
        return super().ls(path, detail=detail, **kwargs)

    def cat_file(self, path, start=None, end=None, **kwargs):
        self._met("cat_file", path)
        return super().cat_file(path, start, end, **kwargs)

    def pipe_file(self, path, value, mode="overwrite", **kwargs):
        self._met("pipe_file", path)
        return super().pipe_file(path, value, mode=mode, **kwargs)

    def open(self, path, *args, **kwargs):
        self._met("open", path)
        opened = super().open(path, *args, **kwargs)
        if (failure := self.failures.get("read")) is not None:
            opened = _FailingFile(opened.getvalue(), failure)
        return opened

    def _met(self, method, path):
        self.calls.append((method, path))
        if method in self.failures:
            raise self.failures[method]


class _FailingFile:
    """Gives its last kilobyte, where Parquet has its footer, and then loses the connection."""

    closed = False

    def __init__(self, content, failure):
        self._content, self._failure, self._at = content, failure, 0

    def seek(self, offset, whence=0):
        self._at = offset + (0, self._at, len(self._content))[whence]
        return self._at

    def tell(self):
        return self._at

    def read(self, size=-1):
        if self._at < len(self._content) - 1_500:
            raise self._failure
        found = self._content[self._at : None if size < 0 else self._at + size]
        self._at += len(found)
        return found

    def close(self):
        self.closed = True
