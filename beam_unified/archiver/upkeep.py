"""For operators: what dead archivers left behind, and a claim that nobody can finish."""

from dataclasses import dataclass

from beam_unified.archive import layout
from beam_unified.archive.archive import Archive
from beam_unified.archive.storage import Storage
from beam_unified.archiver import claims


@dataclass(frozen=True, slots=True)
class Orphans:
    """Files of a topic's folder that no commit and no claim accounts for, relative to it."""

    paths: tuple[str, ...]


def find_orphans(archive: Archive, topic: str) -> Orphans:
    """Data files of no committed flush and of no claim, and the hidden files of writers that were killed (local disk).

    Safe beside running archivers: a part whose claim is open is none, and claims are looked at after the files. On local disk a
    hidden file may be an upload in progress there. One listing of the whole topic.
    """
    folder, storage = layout.check_topic(topic), archive.storage()
    files = storage.files(folder)
    held = _ranges(storage, folder)
    orphans = []
    for path in files:
        part = layout.parse_part(path)
        hidden = path.rpartition("/")[2].startswith(".")
        if hidden or (part is not None and (part[0].partition, part[0].start, part[0].stop) not in held):
            orphans.append(path)
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


def _ranges(storage: Storage, folder: str) -> set[tuple[int, int, int]]:
    """(partition, start, stop) of every flush that is committed or claimed. Claims first: one of them may turn into a commit."""
    held = set[tuple[int, int, int]]()
    for path in storage.files(f"{folder}/_claims"):
        held |= _claimed(storage, f"{folder}/_claims/{path}")
    for path in storage.files(f"{folder}/{layout.commits_folder()}"):
        partition, _, name = path.partition("/")
        flush, number = layout.parse_commit(name), layout.parse_partition(partition)
        if flush is not None and number is not None:
            held.add((number, flush.start, flush.stop))
    return held


def _claimed(storage: Storage, path: str) -> set[tuple[int, int, int]]:
    try:
        claim = claims.decode(storage.get(path), path)
    except FileNotFoundError:  # it was settled meanwhile: its commit is there
        return set()
    return {(claim.tp.partition, claim.commit.flush.start, claim.commit.flush.stop)}
