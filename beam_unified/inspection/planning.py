"""What a read of a range would take: which files, how many bytes and requests, what the brokers would have to send.

Files and their bytes are exact, from the commit objects. Of Kafka only offsets are exact: records and bytes are estimates,
from a sample of records at the beginning of what it would serve.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from beam_unified.archive.commits import Commit
from beam_unified.archive.storage import Storage
from beam_unified.errors import ConfigError, CorruptArchiveError
from beam_unified.flushes import Flush
from beam_unified.inspection.committed import read_commits
from beam_unified.inspection.coverage import Stretch, gaps, stretches
from beam_unified.inspection.survey import PartitionSurvey
from beam_unified.offsets import OffsetRange, TopicPartition
from beam_unified.reading.choice import FromArchive, FromKafka, Prefer
from beam_unified.stores import KafkaLog, OutOfRange

_LISTED_AT_ONCE = 1_000  # objects in an answer of S3's ListObjectsV2
_WHOLE_FILE_BYTES = 64 * 1024 * 1024  # as `archive.reader`: up to here one request brings a file
_READ_AHEAD_BYTES = 8 * 1024 * 1024  # ... and else this much of it
_SAMPLE_RECORDS = 1_000
_SAMPLE_TIMEOUT_MS = 500
_SAMPLE_FETCHES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """Of requests to the object store, in any currency; S3 Standard, us-east-1, 2025, in dollars by default.

    Attributes:
        per_thousand_gets: GET requests.
        per_thousand_lists: LIST requests.
    """

    per_thousand_gets: float = 0.0004
    per_thousand_lists: float = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionPlan:
    """What a read of one partition takes.

    Attributes:
        tp: Which.
        offsets: The range that was asked for.
        stretches: Who serves what of it.
        flushes: How many flushes are opened.
        files: How many data files.
        archive_bytes: Size of those files.
        archive_records: Records in those files; of flushes at the edges all of them.
        gets: GET requests: commit objects and files.
        lists: LIST requests.
        kafka_bytes: Estimate of keys and values that the brokers send, before compression.
    """

    tp: TopicPartition
    offsets: OffsetRange
    stretches: tuple[Stretch, ...]
    flushes: int
    files: int
    archive_bytes: int
    archive_records: int
    gets: int
    lists: int
    kafka_bytes: int

    @property
    def kafka_offsets(self) -> int:
        """Offsets that Kafka serves: an estimate of records, from above."""
        return sum(one.offsets.stop - one.offsets.start for one in self.stretches if isinstance(one.served, FromKafka))

    @property
    def gaps(self) -> tuple[OffsetRange, ...]:
        """What neither store has."""
        return gaps(self.stretches)

    def cost(self, prices: Prices) -> float:
        """Of the requests; transfer is not in it."""
        return (self.gets * prices.per_thousand_gets + self.lists * prices.per_thousand_lists) / 1_000


def plan(
    found: PartitionSurvey,
    offsets: OffsetRange,
    *,
    storage: Storage | None,
    kafka: KafkaLog,
    isolation_level: str,
    prefer: Prefer = "archive",
) -> PartitionPlan:
    """Plans one partition.

    Args:
        found: What both stores hold of it.
        offsets: The range to be read.
        storage: The archive's; None without one.
        kafka: For the sample.
        isolation_level: As the reader's.
        prefer: As the reader's.

    Raises:
        CorruptArchiveError: a commit object that a reader could not read either.
        StoreError: a store that does not answer.
    """
    parts = stretches(offsets, index=found.index, held=found.held, prefer=prefer)
    flushes = list(dict.fromkeys(one.served.flush for one in parts if isinstance(one.served, FromArchive)))
    commits = [] if storage is None else list(_commits(storage, found.tp, flushes, isolation_level))
    sizes = [part.size_bytes for commit in commits for part in commit.parts]
    from_kafka = [one.offsets for one in parts if isinstance(one.served, FromKafka)]
    return PartitionPlan(
        tp=found.tp,
        offsets=offsets,
        stretches=parts,
        flushes=len(flushes),
        files=len(sizes),
        archive_bytes=sum(sizes),
        archive_records=sum(part.rows for commit in commits for part in commit.parts),
        gets=len(commits) + sum(map(_requests, sizes)),
        lists=0 if storage is None else max(1, -(-len(found.index) // _LISTED_AT_ONCE)),
        kafka_bytes=_kafka_bytes(found.tp, from_kafka, kafka),
    )


def _commits(storage: Storage, tp: TopicPartition, flushes: list[Flush], isolation_level: str) -> Iterable[Commit]:
    for _, commit in read_commits(storage, tp, flushes, isolation_level):
        if isinstance(commit, CorruptArchiveError | ConfigError):
            raise commit
        yield commit


def _requests(size_bytes: int) -> int:
    return 1 if size_bytes <= _WHOLE_FILE_BYTES else -(-size_bytes // _READ_AHEAD_BYTES)


def _kafka_bytes(tp: TopicPartition, ranges: list[OffsetRange], kafka: KafkaLog) -> int:
    """Mean size of the first records, times offsets."""
    if not ranges:
        return 0
    at = ranges[0].start
    for _ in range(_SAMPLE_FETCHES):
        fetched = kafka.fetch(tp, at, max_records=_SAMPLE_RECORDS, timeout_ms=_SAMPLE_TIMEOUT_MS)
        if isinstance(fetched, OutOfRange):
            return 0
        batch = fetched.batch
        if batch is not None and len(batch):
            size = sum(len(one.key or b"") + len(one.value or b"") for one in batch.iter_records())
            return round(size / len(batch) * sum(one.stop - one.start for one in ranges))
        at = fetched.next_offset
        if at >= ranges[0].stop:
            return 0
    return 0
