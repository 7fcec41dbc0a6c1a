"""What is asked of an archive that does not hold it: refused when the pipeline is built, with the next step (rule A3)."""

import re
from datetime import timedelta

import pytest

from beam_unified import Archive, ConfigError, JsonField, KafkaTimestamp, ReadUnified, Secor, Snapshot, Start, Stop
from beam_unified.archive.writer import write_flush
from beam_unified.archive_topic import ArchiveTopic
from beam_unified.archiver.upkeep import find_orphans
from beam_unified.offsets import TopicPartition
from beam_unified.testing import InMemoryLog

PLAIN, PACKED = Secor(), Secor(keys="message_pack")
EVENT_TIME = JsonField("time", unit="ms")


def read(layout, *, accept_missing=(), **options):
    archive = Archive("memory://secor", layout=layout, accept_missing=accept_missing)
    return ReadUnified("pins", InMemoryLog("pins").kafka, archive, **{"timestamp_fn": EVENT_TIME, **options})


@pytest.mark.rule("A3", "B2")
@pytest.mark.parametrize(
    ("options", "next_step"),
    [
        ({"timestamp_fn": KafkaTimestamp()}, r"JsonField\('time', unit='ms'\)"),
        ({"start": Start.at("2026-11-16T00:00:00Z")}, r"Start\.offsets\(.*Start\.latest\(\)"),
        ({"start": Start.before_now("7d")}, r"Start\.offsets\("),
        ({"stop": Stop.at("2026-11-16T00:00:00Z")}, r"Stop\.offsets\("),
        ({"stop": Stop.now()}, r"Stop\.offsets\("),
        (
            {"output": "record"},
            r"have no headers, no key, no timestamp: .*accept_missing=\['headers', 'key', 'timestamp'\]",
        ),
    ],
)
def test_what_the_records_do_not_have_is_refused(options, next_step):
    """A3: never a None in its place, unless that was agreed to."""
    with pytest.raises(ConfigError, match=next_step):
        read(PLAIN, **options)


@pytest.mark.rule("A3")
def test_what_the_records_have_may_be_asked_for():
    """A3: a layout says what it lacks, and only that is refused; what is accepted for records does not make a timestamp."""
    read(PLAIN, start=Start.offsets({0: 5}), stop=Stop.offsets({0: 9}))
    read(PACKED, timestamp_fn=KafkaTimestamp(), start=Start.at("2026-11-16T00:00:00Z"), stop=Stop.now())
    read(PACKED, output="record", accept_missing=["headers"])
    read(None, output="record", timestamp_fn=KafkaTimestamp())
    for output in ("record", "arrow"):
        with pytest.raises(ConfigError, match=rf"output='{output}'.*have no headers:"):
            read(PACKED, output=output, accept_missing=["key"])
    with pytest.raises(ConfigError, match="KafkaTimestamp"):
        read(PLAIN, timestamp_fn=KafkaTimestamp(), accept_missing=["timestamp", "key", "headers"])


@pytest.mark.rule("A3", "B2")
def test_an_archive_of_another_tool_is_only_read():
    """A3: nothing is written, tidied or pinned beside files that are not ours."""
    archive, log = Archive("memory://secor", layout=PLAIN), InMemoryLog("pins")
    for write in (
        lambda: ArchiveTopic("pins", log.kafka, archive, flush_interval=timedelta(seconds=1)),
        lambda: write_flush(archive, TopicPartition("pins", 0), [], start=0, stop=1),
        lambda: find_orphans(archive, "pins"),
        lambda: Snapshot.capture(log.kafka, archive, "pins", stop=Stop.offsets({0: 1})),
    ):
        with pytest.raises(
            ConfigError, match=re.escape("is only read: writing, announcing, tidying and snapshots need")
        ):
            write()
