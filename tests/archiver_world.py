"""A storage in memory with conditional create, a log, and archivers that are stepped one request at a time."""

import io
import itertools
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pyarrow.parquet as pq

from beam_unified.archive import layout
from beam_unified.archiver.archiver import ArchiverRules, PartitionArchiver
from beam_unified.archiver.planning import FlushLimits
from beam_unified.offsets import TopicPartition
from beam_unified.testing import InMemoryLog, ManualClock

TOPIC = "pins"
TP = TopicPartition(TOPIC, 0)
HOUR_MS = 3_600_000
T0 = 1_794_830_400_000


class MemoryFiles:
    """Implements `archiver.Files`; strongly consistent, as S3 is."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def names(self, folder):
        found = [path.removeprefix(f"{folder}/") for path in sorted(self.files) if path.startswith(f"{folder}/")]
        if not found:
            raise FileNotFoundError(folder)
        return found

    def names_after(self, folder, last):
        return [name for name in self.names(folder) if name > last]

    def get(self, path):
        if path not in self.files:
            raise FileNotFoundError(path)
        return self.files[path]

    def put(self, path, content):
        self.files[path] = content

    def put_file(self, local, path):
        self.files[path] = Path(local).read_bytes()

    def create(self, path, content):
        if path in self.files:
            return False
        self.files[path] = content
        return True

    def remove(self, path):
        self.files.pop(path, None)

    def url(self, path):
        return f"memory://{path}"


class World:
    """One partition, its archive, and what was announced."""

    def __init__(self) -> None:
        self.log = InMemoryLog(TOPIC)
        self.files = MemoryFiles()
        self.clock = ManualClock()
        self.announced: Counter[tuple[int, int]] = Counter()
        self._made: list[PartitionArchiver] = []

    def append(self, hours):
        """A record for each hour, counted from T0."""
        for hour in hours:
            offset = self.log.kafka.connect().bounds(TP).stop
            self.log.append(0, b"%d" % offset, timestamp=T0 + hour * HOUR_MS + offset)

    def announce(self, commit):
        self.announced[commit.flush.start, commit.flush.stop] += 1

    def close(self):
        """As an announcer."""

    def archiver(self, *, records=4, first=0, on_gap="fail", age=timedelta(minutes=10)):
        rules = ArchiverRules(limits=FlushLimits(records=records, age=age), on_gap=on_gap)
        kafka = self.log.kafka.connect()
        one = PartitionArchiver(TP, self.files, kafka, announcer=self, rules=rules, clock=self.clock, first=first)
        self._made.append(one)
        return one

    def flushes(self):
        folder = f"{TOPIC}/{layout.commits_folder(0)}"
        names = self.files.names(folder) if any(path.startswith(folder) for path in self.files.files) else []
        return sorted(flush for name in names if (flush := layout.parse_commit(name)) is not None)

    def rows(self):
        """Offsets that a plain reader of the data files sees, with repeats."""
        found = []
        for path, content in self.files.files.items():
            if path.endswith(".parquet"):
                found += pq.read_table(io.BytesIO(content)).column("offset").to_pylist()
        return sorted(found)

    def claims(self):
        return [path for path in self.files.files if "/_claims/" in path]

    def finish(self, **options):
        """A new archiver up to the end of the log; the others do nothing any more."""
        one = self.archiver(**options)
        try:
            for _ in steps(one, self.log.kafka.connect().bounds(TP).stop):
                pass
        finally:
            for made in self._made:
                made.close()

    def check(self, written=None):
        """What must hold once a bounded archiver has come to its end."""
        offsets = [record.offset for record in self.log.records(0)] if written is None else written
        assert self.claims() == []
        assert self.rows() == offsets
        flushes = self.flushes()
        assert all(one.stop == other.start for one, other in itertools.pairwise(flushes))
        assert {(flush.start, flush.stop) for flush in flushes} == set(self.announced)


def steps(one, stop):
    """An archiver up to a stop, a request at a time."""
    while not one.done(stop):
        job = one.job(stop)
        if job is not None:
            yield from job
        elif one.done(stop):
            return
        else:
            one.read(stop, timeout_ms=0)
            yield "read"
