"""Commit objects of many flushes, fetched side by side; one that is bad is an answer, not the end."""

from collections.abc import Iterator, Sequence
from itertools import islice

from beam_unified.archive import layout
from beam_unified.archive.archive import checked_commit
from beam_unified.archive.commits import Commit
from beam_unified.archive.storage import Storage
from beam_unified.errors import ConfigError, CorruptArchiveError
from beam_unified.flushes import Flush
from beam_unified.offsets import TopicPartition

_AT_ONCE = 64


def read_commits(
    storage: Storage, tp: TopicPartition, flushes: Sequence[Flush], isolation_level: str | None
) -> Iterator[tuple[Flush, Commit | CorruptArchiveError | ConfigError]]:
    """Each flush with its commit object, in order; or with what is wrong with that.

    Raises:
        ArchiveUnavailableError: the storage does not answer.
    """
    left = iter(flushes)
    while some := list(islice(left, _AT_ONCE)):
        paths = [f"{tp.topic}/{commit_path(tp.partition, flush)}" for flush in some]
        for flush, path, content in zip(some, paths, storage.get_all(paths), strict=True):
            where = f"{tp}: {storage.url(path)}"
            if content is None:
                yield flush, CorruptArchiveError(f"{where} was listed and is gone: somebody removed the flush.")
                continue
            try:
                yield flush, checked_commit(content, where, tp, flush, isolation_level)
            except (CorruptArchiveError, ConfigError) as error:
                yield flush, error


def commit_path(partition: int, flush: Flush) -> str:
    """Relative to the topic's folder."""
    return f"{layout.commits_folder(partition)}/{layout.commit_name(flush)}"
