"""An archive of another tool, made of small files in memory, beside a ledger of what they hold. For tests of the seam."""

import json
import uuid
from collections import defaultdict
from dataclasses import dataclass, field

import fsspec
from hypothesis import strategies as st

from beam_unified.archive.foreign.columns import Columns
from beam_unified.archive.foreign.layout import Completeness, FileName, Lack

TOPIC = "pins"
TIMES = 4
"""So many milliseconds are in a folder by time."""


@dataclass(frozen=True, kw_only=True)
class Lines:
    """`<topic>/<folder>/<partition>_<start>[_<stop>].json`: a JSON array of offsets, of which the value is made.

    Below a folder that is a number are Kafka timestamps from there on, up to `TIMES` ones.
    """

    completeness: Completeness = field(default_factory=Completeness)
    lacks: frozenset[Lack] = frozenset({"key", "headers"})

    def folder(self, topic):
        return topic

    def parse(self, topic, path):
        inner, _, name = path.rpartition("/")
        if not inner.startswith(topic) or not name.endswith(".json"):
            return None
        partition, start, *stop = name.removesuffix(".json").split("_")
        folder = inner.rpartition("/")[2]
        bounds = (int(folder), int(folder) + TIMES - 1) if folder.isdigit() else (None, None)
        return FileName(
            partition=int(partition),
            start=int(start),
            stop=int(stop[0]) if stop else None,
            min_timestamp=bounds[0],
            max_timestamp=bounds[1],
        )

    def read(self, path, open_file):
        file, _ = open_file(path)
        offsets = json.loads(file.read())
        for at in range(0, len(offsets), 4):
            some = offsets[at : at + 4]
            yield Columns([value_of(one) for one in some], some, timestamps=[time_of(one) for one in some])


def value_of(offset):
    return b"%d" % offset


def time_of(offset):
    """Out of order, by up to 5."""
    return 1_000 + offset - offset % 3 * 2


def time_folder(offset):
    """Of `TIMES` milliseconds."""
    return str(time_of(offset) // TIMES * TIMES)


class Files:
    """A root in memory."""

    def __init__(self):
        self.root = f"memory://foreign-{uuid.uuid4().hex}"
        self._files = fsspec.filesystem("memory")
        self.there: dict[str, tuple[int, ...]] = {}

    def put(self, start, offsets, *, folder="a", stop=None, partition=0):
        name = f"{partition}_{start}.json" if stop is None else f"{partition}_{start}_{stop}.json"
        path = f"{TOPIC}/{folder}/{name}"
        self.there[path] = tuple(offsets)
        self._files.pipe(f"{self.root}/{path}", json.dumps(list(offsets)).encode())

    def remove(self, path):
        del self.there[path]
        self._files.rm(f"{self.root}/{path}")

    def offsets(self):
        """Every offset that is in a file."""
        return sorted({offset for offsets in self.there.values() for offset in offsets})


@st.composite
def archives(draw, max_offset=40, holes=False, max_batches=6, by_time=False):
    """(files, end): batches of [0, end), in some folders each, some copied, some reaching into later ones, some ending early.

    With `holes` some offsets, but neither the first nor the last one, have no record, as after a compaction. `by_time`: folders are
    those of Kafka's timestamp.
    """
    files, end = Files(), draw(st.integers(1, max_offset))
    gone = {*range(1, end - 1)} & draw(st.sets(st.integers(1, max_offset))) if holes else set[int]()
    furthest, starts = 0, sorted({0, *draw(st.lists(st.integers(0, end - 1), max_size=max_batches - 1))})
    for start, following in zip(starts, [*starts[1:], end], strict=True):
        if furthest > following and draw(st.booleans()):  # as in secor#97: the one before it has the rest
            reach = draw(st.integers(start + 1, following))
        else:
            reach = draw(st.integers(following, min(end, following + 15)))
        furthest = max(furthest, reach)
        folders = defaultdict(list)
        for offset in sorted({*range(start, reach)} - gone):
            folders[time_folder(offset) if by_time else draw(st.sampled_from("abc"))].append(offset)
            if not by_time and draw(st.integers(0, 9)) == 0:
                folders["copy"].append(offset)
        for folder, offsets in folders.items():
            files.put(start, offsets, folder=folder)
    if len(starts) > 1 and draw(st.booleans()):
        _end_early(files, starts[-2:], [offset for offset in range(starts[-2], end) if offset not in gone], by_time)
    return files, end


def _end_early(files, starts, offsets, by_time):
    """Makes the newest batch shorter than what the one before it, which then holds all of `offsets`, reaches."""
    before, newest = starts
    for path in [path for path in files.there if f"_{newest}.json" in path]:
        kept = [offset for offset in files.there[path] if offset < newest + 2]
        files.remove(path)
        if kept:
            files.put(newest, kept, folder=path.split("/")[1])
    for path in [path for path in files.there if by_time and path.endswith(f"_{before}.json")]:
        files.remove(path)
    folders = defaultdict(list)
    for offset in offsets:
        folders[time_folder(offset) if by_time else "xy"[offset % 2]].append(offset)
    for folder, some in folders.items():
        files.put(before, some, folder=folder)
