"""The message that announces a commit: versioned JSON, one a commit, at least once. And the topic of Kafka that it goes to.

    key:   <topic>/<partition>/<start>-<stop>        the same commit has the same key, for compaction
    value: {"version": 1, "topic": ..., "partition": ..., "start": ..., "stop": ..., "min_timestamp_ms": ...,
            "max_timestamp_ms": ..., "isolation_level": ..., "commit": "<path of the commit object below the root>",
            "records": ..., "size_bytes": ...}

A reader ignores fields that it does not know. A message of another version is an error, never skipped.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from beam_unified.archive import commits, layout
from beam_unified.archive.archive import Archive
from beam_unified.archive.commits import Commit
from beam_unified.archiver.archiver import Announcer
from beam_unified.errors import CorruptArchiveError
from beam_unified.flushes import Flush
from beam_unified.kafka.client import Kafka
from beam_unified.kafka.writing import TopicWriter, check_keeps
from beam_unified.offsets import TopicPartition

VERSION = 1

_TOPIC: Mapping[str, str] = {"cleanup.policy": "compact", "retention.ms": "-1"}


class CommitTopic(Protocol):
    """Where commits are announced. Frozen, picklable, without a connection."""

    def check(self) -> None:
        """Asks, while a pipeline is built, whether it can work; changes nothing. Raises ConfigError where it cannot."""
        ...

    def connect(self) -> Announcer:
        """Opens a connection."""
        ...


@dataclass(frozen=True, kw_only=True)
class KafkaCommitTopic:
    """A topic of Kafka on which commits are announced, for any number of archived topics.

    Args:
        kafka: Where. Credentials of the archiver need Write and Describe, Create unless the topic exists, and DescribeConfigs.
        topic: Its name. Created compacted, with one partition, so that it holds every commit for ever. One that exists and does
            not (a retention, without compaction) is refused: readers would begin later, and not notice.
        replication_factor: Of a topic that is created; None is the brokers' default.
    """

    kafka: Kafka
    topic: str
    replication_factor: int | None = None

    def check(self) -> None:
        """Raises ConfigError where the topic exists and forgets; KafkaUnavailableError, KafkaSecurityError."""
        check_keeps(self.kafka, self.topic)

    def connect(self) -> "KafkaAnnouncer":
        """Opens a connection. Raises as `check` does."""
        return KafkaAnnouncer(self)


class KafkaAnnouncer:
    """See `KafkaCommitTopic`; implements `Announcer`."""

    def __init__(self, source: KafkaCommitTopic) -> None:
        """Connects."""
        self._writer = TopicWriter(
            source.kafka, source.topic, config=_TOPIC, replication_factor=source.replication_factor
        )

    def announce(self, commit: Commit) -> None:
        """Returns when the brokers have it."""
        self._writer.write(key_of(commit), encode(commit))

    def close(self) -> None:
        """Disconnects."""
        self._writer.close()


def announce_again(archive: Archive, topic: str, commit_topic: CommitTopic) -> int:
    """Announces every commit of a topic that is in the archive: for one that was written without, or after a loss.

    Returns:
        How many.
    """
    storage, announcer, count = archive.storage(), commit_topic.connect(), 0
    try:
        folder = f"{layout.check_topic(topic)}/{layout.commits_folder()}"
        for path in sorted(storage.files(folder)):
            if layout.parse_commit(path.rpartition("/")[2]) is not None:
                announcer.announce(commits.decode(storage.get(f"{folder}/{path}"), storage.url(f"{folder}/{path}")))
                count += 1
    finally:
        announcer.close()
    return count


@dataclass(frozen=True, slots=True)
class Announcement:
    """A commit, as far as an index needs it."""

    tp: TopicPartition
    flush: Flush
    isolation_level: str


def key_of(commit: Commit) -> bytes:
    """Of the message."""
    return f"{commit.topic}/{commit.partition}/{commit.flush.start}-{commit.flush.stop}".encode()


def encode(commit: Commit) -> bytes:
    """The value of the message."""
    flush = commit.flush
    document = {
        "version": VERSION,
        "topic": commit.topic,
        "partition": commit.partition,
        "start": flush.start,
        "stop": flush.stop,
        "min_timestamp_ms": flush.min_timestamp,
        "max_timestamp_ms": flush.max_timestamp,
        "isolation_level": commit.isolation_level,
        "commit": f"{commit.topic}/{layout.commits_folder(commit.partition)}/{layout.commit_name(flush)}",
        "records": sum(part.rows for part in commit.parts),
        "size_bytes": sum(part.size_bytes for part in commit.parts),
    }
    return json.dumps(document, sort_keys=True).encode()


def decode(value: bytes, where: str) -> Announcement:
    """Reads a message.

    Args:
        value: Its bytes.
        where: Topic, partition and offset of the message, for errors.

    Raises:
        CorruptArchiveError: something else, or a message of a later release.
    """
    try:
        found: Any = json.loads(value)
        if found["version"] == VERSION:
            flush = Flush(found["start"], found["stop"], found["min_timestamp_ms"], found["max_timestamp_ms"])
            layout.commit_name(flush)
            tp = TopicPartition(layout.check_topic(found["topic"]), int(found["partition"]))
            return Announcement(tp, flush, str(found["isolation_level"]))
        wrong = f"has version {found['version']!r}, this release of beam-unified knows {VERSION}: upgrade the reader"
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        wrong = (
            f"announces no commit ({type(error).__name__}: {error}): give the reader the topic that the archiver writes"
        )
    raise CorruptArchiveError(f"{where} {wrong}.")
