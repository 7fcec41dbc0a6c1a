"""For operators: what dead archivers left behind, and a claim that nobody can finish."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from beam_unified.archive import commits, layout
from beam_unified.archive.archive import Archive
from beam_unified.archive.layout import PartName
from beam_unified.archive.storage import Storage
from beam_unified.archiver import claims
from beam_unified.flushes import Flush

_Range = tuple[int, int, int]
"""Partition, start and stop of a flush."""


@dataclass(frozen=True, slots=True)
class Orphans:
    """Files of a topic's folder that no commit and no claim accounts for, relative to it."""

    paths: tuple[str, ...]


def find_orphans(archive: Archive, topic: str) -> Orphans:
    """Data files of no committed flush and of no claim, and the hidden files of writers that were killed (local disk).

    Safe beside running archivers: a part whose claim is open is none, and claims are looked at after the files. On local disk a
    hidden file may be an upload in progress there. One listing of the whole topic, and a commit object is read where the files
    of its range are more than one flush has: those of an abandoned claim may be of the same range.
    """
    folder, storage = layout.check_topic(topic), archive.storage()
    files = storage.files(folder)
    claimed = _claimed(storage, folder)  # before the commits: one of them may turn into a commit
    committed = _committed(storage, folder)
    orphans, of_ranges = list[str](), defaultdict[_Range, dict[str, PartName]](dict)
    for path in files:
        part = layout.parse_part(path)
        if path.rpartition("/")[2].startswith("."):
            orphans.append(path)
        elif part is not None:
            of_ranges[part[0].partition, part[0].start, part[0].stop][path] = part[0]
    for key, parts in of_ranges.items():
        if key not in committed or not _are_one_flush(committed[key], parts.values()):
            commits_of = [_commit_path(folder, key[0], flush) for flush in committed.get(key, ())]
            kept = claimed.union(*(_parts(storage, path) for path in commits_of))
            orphans += parts.keys() - kept
    return Orphans(tuple(sorted(orphans)))


def remove_orphans(archive: Archive, topic: str) -> Orphans:
    """Removes what `find_orphans` finds, and says what it was."""
    found, storage = find_orphans(archive, topic), archive.storage()
    for path in found.paths:
        storage.remove(f"{topic}/{path}")
    return found


def abandon_claims(archive: Archive, topic: str) -> tuple[str, ...]:
    """Removes every claim of the topic: for OpenClaimError. The ranges are then archived anew, as Kafka gives them now.

    Only while no archiver of the topic runs, not even a hanging one: it could still commit what it has claimed, and a plain reader
    of the files would see the range twice. Call `remove_orphans` afterwards: parts of the claims may be there.

    Returns:
        Their paths, relative to the topic's folder.
    """
    folder, storage = layout.check_topic(topic), archive.storage()
    found = tuple(sorted(path for path in storage.files(folder) if path.startswith("_claims/")))
    for path in found:
        storage.remove(f"{folder}/{path}")
    return found


def _committed(storage: Storage, folder: str) -> dict[_Range, list[Flush]]:
    """The commits of every range."""
    found = defaultdict[_Range, list[Flush]](list)
    for path in storage.files(f"{folder}/{layout.commits_folder()}"):
        partition, _, name = path.partition("/")
        flush, number = layout.parse_commit(name), layout.parse_partition(partition)
        if flush is not None and number is not None:
            found[number, flush.start, flush.stop].append(flush)
    return found


def _are_one_flush(flushes: Sequence[Flush], parts: Iterable[PartName]) -> bool:
    """Whether files are all the parts of one flush, each once, by their names. One without timestamps may have no part at all."""
    names = list(parts)
    whole = {(number, len(names)) for number in range(1, len(names) + 1)} == {(name.part, name.parts) for name in names}
    return whole and len(flushes) == 1 and flushes[0].min_timestamp is not None


def _commit_path(folder: str, partition: int, flush: Flush) -> str:
    return f"{folder}/{layout.commits_folder(partition)}/{layout.commit_name(flush)}"


def _parts(storage: Storage, path: str) -> set[str]:
    """The files of a commit."""
    return {part.path for part in commits.decode(storage.get(path), storage.url(path)).parts}


def _claimed(storage: Storage, folder: str) -> set[str]:
    """The files of every claim."""
    found = set[str]()
    for path in storage.files(f"{folder}/_claims"):
        with suppress(FileNotFoundError):  # it was settled meanwhile: its commit is there
            claim = claims.decode(storage.get(f"{folder}/_claims/{path}"), path)
            found |= {part.path for part in claim.commit.parts}
    return found
