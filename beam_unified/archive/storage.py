"""A folder on an fsspec file system: the only edge at which storage is touched and its errors become ours (B2, B4).

Used by the archive's reader and writer, with paths relative to the root. It knows nothing of layouts, commits or
Parquet. A missing file is FileNotFoundError here: only the caller knows what it means. Everything else that a file
system raises is an ArchiveUnavailableError that names URL, reason and next step.

Reasons are quoted from client libraries, which may put an endpoint or an option into them. So whatever was passed in
`storage_options` is blacked out, and the original exception, whose text cannot be changed, is not chained.
"""

import contextlib
import os
import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import pyarrow as pa
from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem
from fsspec.utils import get_protocol

from beam_unified.errors import ArchiveUnavailableError, ConfigError
from beam_unified.secrets import resolved

_T = TypeVar("_T")

_READ_AHEAD_BYTES = 8 * 1024 * 1024
_LONG_SECRET = 8  # shorter ones are blacked out as whole words only, or "a" would black out every a
_SHOWN_OPTIONS = {"endpoint_url", "region_name", "anon"}
_S3 = {"s3", "s3a"}
_CREATES = {*_S3, "file", "local", "memory", "gs", "gcs"}
_WITHOUT_BUCKETS = {"file", "local", "memory"}
_USERINFO = re.compile(r"://[^/\s]*@")

# A wrong endpoint is an error in seconds; botocore's defaults wait for minutes. s3fs tries again round this, too.
_S3_CONFIG: Mapping[str, object] = {
    "connect_timeout": 5,
    "read_timeout": 10,
    "retries": {"total_max_attempts": 2, "mode": "standard"},
}


def holds_credentials(url: str) -> bool:
    """Whether a URL, or one chained in it, has the form user:password@host."""
    return _USERINFO.search(url) is not None


def open_file_system(root: str, storage_options: Mapping[str, Any]) -> tuple[AbstractFileSystem, str]:
    """The file system of a root, and the root's path on it. Raises ConfigError."""
    given = resolved(storage_options)
    options = {**given, "use_listings_cache": False}  # an archive grows while it is read
    protocol = get_protocol(root)
    if protocol in _S3:
        options["config_kwargs"] = {**_S3_CONFIG, **(options.get("config_kwargs") or {})}
    if protocol in {"file", "local"}:
        options["auto_mkdir"] = True
    try:
        file_system, path = url_to_fs(root, **options)
    except Exception as error:  # noqa: BLE001 - a file system's constructor raises what it likes about its options
        raise ConfigError(f"archive {root}: {_Censor(given).shown(error)}") from None
    path = str(path).rstrip("/")
    if not path and protocol not in _WITHOUT_BUCKETS:  # the topic would be taken for the bucket
        raise ConfigError(f"archive {root}: there is no bucket in it. Write {protocol}://bucket/folder.")
    return file_system, path


def creates_exclusively(root: str) -> bool:
    """Whether `Storage.create` is known to be exclusive on the root's file system."""
    return get_protocol(root) in _CREATES


@dataclass(frozen=True, slots=True, kw_only=True)
class FileInfo:
    """What a listing says of a file.

    Attributes:
        size_bytes: Its size.
        etag: What changes when an object store's file is replaced (S3's ETag), without quotes; None on file systems that
            have no such thing, as local disks.
    """

    size_bytes: int
    etag: str | None


class Storage:
    """The folder. Thread safe, as fsspec's file systems are."""

    def __init__(self, root: str, storage_options: Mapping[str, Any]) -> None:
        """Takes an fsspec URL and options; talks to nobody yet. Raises ConfigError."""
        self._root = root.rstrip("/")
        given = resolved(storage_options)
        self._files, self._path = open_file_system(root, given)
        self._censor = _Censor(given)

    def url(self, path: str) -> str:
        """Where a path is, for messages."""
        return f"{self._root}/{path}" if path else self._root

    def names(self, folder: str, *, timeout_s: float | None = None) -> list[str]:
        """Names in a folder: one listing, never a cached one.

        Args:
            folder: Relative to the root.
            timeout_s: Give up after so long, retries included, where the file system can.

        Raises:
            FileNotFoundError: no such folder, or no such bucket; the text tells which.
        """
        within = {} if timeout_s is None or not getattr(self._files, "async_impl", False) else {"timeout": timeout_s}
        path = self._absolute(folder)
        found = self._guarded(folder, lambda: self._files.ls(path, detail=False, **within))
        return [name for one in found if (name := str(one).rstrip("/").rpartition("/")[2])]

    def names_after(self, folder: str, last: str) -> list[str]:
        """Names in a folder that sort after `last`, which need not exist. On S3 only those are listed."""
        if get_protocol(self._root) not in _S3:
            return [name for name in self.names(folder) if name > last]
        bucket, _, key = self._absolute(folder).partition("/")
        request = {"Bucket": bucket, "Prefix": f"{key}/", "Delimiter": "/", "StartAfter": f"{key}/{last}"}
        found, page = list[str](), dict[str, Any](IsTruncated=True)
        while page.get("IsTruncated"):
            page = self._guarded(folder, lambda: self._files.call_s3("list_objects_v2", **request))
            found += [str(item["Key"]).rpartition("/")[2] for item in page.get("Contents", ())]
            request["ContinuationToken"] = page.get("NextContinuationToken", "")
        return found

    def files(self, folder: str) -> dict[str, FileInfo]:
        """Every file below a folder, however deep, by its path relative to the folder; none where there is no folder.

        One listing, of a thousand files a request on an object store; never a cached one.
        """
        path = self._absolute(folder)
        try:
            found = self._guarded(folder, lambda: self._files.find(path, detail=True))
        except FileNotFoundError:
            return {}
        return {
            str(name).removeprefix("/")[len(path.removeprefix("/")) + 1 :]: _info(one) for name, one in found.items()
        }

    def files_after(self, folder: str, last: str, *, limit: int | None = None) -> dict[str, FileInfo]:
        """The files below a folder whose path relative to it sorts after `last`. On S3 only those, up to `limit`, are listed."""
        if get_protocol(self._root) not in _S3:
            listed = self.files(folder)
            return {path: listed[path] for path in sorted(path for path in listed if path > last)[:limit]}
        bucket, _, key = self._absolute(folder).partition("/")
        prefix = f"{key}/" if key else ""
        request = {"Bucket": bucket, "Prefix": prefix, "StartAfter": f"{prefix}{last}"}
        found, page = dict[str, FileInfo](), dict[str, Any](IsTruncated=True)
        while page.get("IsTruncated") and (limit is None or len(found) < limit):
            page = self._guarded(folder, lambda: self._files.call_s3("list_objects_v2", **request))
            found |= {
                str(item["Key"]).removeprefix(prefix): _info({**item, "size": item["Size"]})
                for item in page.get("Contents", ())
            }
            request["ContinuationToken"] = page.get("NextContinuationToken", "")
        return found

    def info(self, path: str) -> FileInfo:
        """What the file system knows of a file, in one request. Raises FileNotFoundError."""
        return _info(self._guarded(path, lambda: self._files.info(self._absolute(path))))

    def tags(self, path: str) -> Mapping[str, str]:
        """An object's tags, in one request; empty on file systems that have none. Raises FileNotFoundError."""
        if get_protocol(self._root) not in _S3:
            return {}
        found: Mapping[str, str] = self._guarded(path, lambda: self._files.get_tags(self._absolute(path)))
        return found

    def get(self, path: str) -> bytes:
        """A whole file, in one request. Raises FileNotFoundError."""
        return self._guarded(path, lambda: bytes(self._files.cat_file(self._absolute(path))))

    def get_all(self, paths: Sequence[str]) -> list[bytes | None]:
        """Whole files, fetched side by side where the file system can; None for one that is missing."""
        if not paths:
            return []
        absolute = [self._absolute(path) for path in paths]
        found = self._guarded(paths[0], lambda: self._files.cat_ranges(absolute, None, None, on_error="return"))
        return [self._content(path, one) for path, one in zip(paths, found, strict=True)]

    def open(self, path: str) -> tuple[pa.NativeFile, int]:
        """A file for reading piece by piece, and its size. Raises FileNotFoundError."""
        opened = self._guarded(
            path,
            lambda: self._files.open(self._absolute(path), "rb", block_size=_READ_AHEAD_BYTES, cache_type="readahead"),
        )
        size = self._guarded(path, lambda: opened.seek(0, 2))
        opened.seek(0)
        return pa.PythonFile(_GuardedFile(opened, lambda call: self._guarded(path, call)), mode="r"), size

    def put(self, path: str, content: bytes) -> None:
        """Writes a file as a whole: object stores do so anyway, a local one by way of a hidden name beside it."""
        target = self._absolute(path)
        if isinstance(self._files, LocalFileSystem):
            hidden = self._hidden(target)
            self._guarded(path, lambda: self._files.pipe_file(hidden, content))
            self._guarded(path, lambda: self._files.mv(hidden, target))
        else:
            self._guarded(path, lambda: self._files.pipe_file(target, content))

    def create(self, path: str, content: bytes) -> bool:
        """Writes a small file as a whole unless there is one; False where there is. Of several writers one gets True.

        A writer that gets False may be the one whose file it is: a request whose answer was lost is sent again.
        """
        target = self._absolute(path)
        try:
            if isinstance(self._files, LocalFileSystem):
                hidden = self._hidden(target)
                self._guarded(path, lambda: self._files.pipe_file(hidden, content))
                try:
                    os.link(hidden, target)  # atomic, and with its content: an exclusive open would show half a file
                finally:
                    self._files.rm_file(hidden)
            else:
                self._files.pipe_file(target, content, mode="create")
        except FileExistsError:
            return False
        except (ArchiveUnavailableError, FileNotFoundError):
            raise
        except Exception as error:  # noqa: BLE001 - as in `_guarded`
            raise self._unavailable(path, error) from None
        return True

    def put_file(self, local: str, path: str) -> None:
        """Uploads a local file; it is there as a whole or not at all."""
        target = self._absolute(path)
        if isinstance(self._files, LocalFileSystem):
            hidden = self._hidden(target)
            self._guarded(path, lambda: self._files.makedirs(target.rpartition("/")[0], exist_ok=True))
            self._guarded(path, lambda: self._files.put_file(local, hidden))
            self._guarded(path, lambda: self._files.mv(hidden, target))
        else:
            self._guarded(path, lambda: self._files.put_file(local, target))

    def remove(self, path: str) -> None:
        """Removes a file; nothing happens where there is none."""
        with contextlib.suppress(FileNotFoundError):
            self._guarded(path, lambda: self._files.rm_file(self._absolute(path)))

    def shown(self, error: BaseException) -> str:
        """The text of an error, without secrets."""
        return self._censor.shown(error)

    @staticmethod
    def _hidden(target: str) -> str:
        """A name beside a file, of this writer alone: another may write the same file."""
        folder, _, name = target.rpartition("/")
        return f"{folder}/.{name}.{uuid.uuid4().hex}"

    def _absolute(self, path: str) -> str:
        return f"{self._path}/{path}" if path else self._path

    def _content(self, path: str, found: bytes | BaseException) -> bytes | None:
        if isinstance(found, FileNotFoundError):
            return None
        if isinstance(found, BaseException):
            raise self._unavailable(path, found) from None
        return bytes(found)

    def _guarded(self, path: str, call: Callable[[], _T]) -> _T:
        """Runs one call of the file system."""
        try:
            return call()
        except FileNotFoundError:
            raise
        except Exception as error:  # noqa: BLE001 - file systems raise whatever their client library does
            raise self._unavailable(path, error) from None

    def _unavailable(self, path: str, error: BaseException) -> ArchiveUnavailableError:
        where, reason = self.url(path), self._censor.shown(error)
        if isinstance(error, PermissionError):
            return ArchiveUnavailableError(
                f"{where}: access denied ({reason}). Check the credentials in storage_options and the permission to list "
                "and to read."
            )
        return ArchiveUnavailableError(
            f"{where}: the storage does not answer as it should ({reason}). Check the endpoint, the region and the "
            "credentials in storage_options."
        )


def _info(found: Mapping[str, Any]) -> FileInfo:
    etag = found.get("ETag") or found.get("etag")
    return FileInfo(size_bytes=int(found["size"]), etag=None if etag is None else str(etag).strip('"'))


class _GuardedFile:
    """A file of fsspec as pyarrow wants it, whose errors are the archive's: the network is not a corrupt file."""

    def __init__(self, file: Any, guarded: Callable[[Callable[[], Any]], Any]) -> None:
        self._file = file
        self._guarded = guarded

    @property
    def closed(self) -> bool:
        return bool(self._file.closed)

    def read(self, size: int = -1) -> bytes:
        found: bytes = self._guarded(lambda: self._file.read(size))
        return found

    def seek(self, offset: int, whence: int = 0) -> int:
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        self._file.close()


class _Censor:
    """Blacks out what was passed as an option."""

    def __init__(self, storage_options: Mapping[str, Any]) -> None:
        secrets = sorted({text for text in _leaves(storage_options) if text}, key=len, reverse=True)
        whole_words = [rf"(?<!\w){re.escape(text)}(?!\w)" for text in secrets if len(text) < _LONG_SECRET]
        long = [re.escape(text) for text in secrets if len(text) >= _LONG_SECRET]
        self._secrets = re.compile("|".join(long + whole_words)) if secrets else None

    def shown(self, error: BaseException) -> str:
        text = _USERINFO.sub("://***@", f"{type(error).__name__}: {error}")
        return text if self._secrets is None else self._secrets.sub("***", text)


def _leaves(value: Any, key: str = "") -> Iterator[str]:
    """Every text in nested options that is not one of the few that help and harm nobody."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _leaves(inner, str(name))
    elif isinstance(value, list | tuple | set | frozenset):
        for inner in value:
            yield from _leaves(inner, key)
    elif isinstance(value, bytes):
        yield value.decode(errors="replace")
    elif isinstance(value, str) and key not in _SHOWN_OPTIONS:
        yield value
