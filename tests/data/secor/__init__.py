"""A topic as Secor leaves it, in files that Hadoop's own classes wrote; `python -m tests.data.secor` writes them anew.

Two partitions. Of partition 0 the second batch was begun before the end of the first (a rebalance), a late message lies in its
own hour, and offsets from 150 on were never archived. The pure part, which tests use, is what each record is.
"""

import json
from pathlib import Path

FOLDER = Path(__file__).parent
TOPIC = "pins"
SYNCED = FOLDER / "synced"
"""A file of 1,200 records of 200 bytes, long enough for sync markers between them; kept as `synced.gz`."""

ARCHIVED = {0: 150, 1: 40}
"""Partition -> so many records are in the archive."""

_START_MS = 1_794_808_800_000  # 2026-11-16T06:00:00Z
_LATE = 137


def key_of(offset: int) -> bytes | None:
    """Some have none."""
    return None if offset % 5 == 0 else b"key-%d" % (offset % 7)


def timestamp_of(offset: int) -> int:
    """A record a minute, one of them late."""
    return _START_MS + 60_000 * (5 if offset == _LATE else offset)


def value_of(partition: int, offset: int) -> bytes:
    """JSON with a time years from Kafka's."""
    return json.dumps({"n": offset, "p": partition, "time": 1_370_000_000_000 + offset * 1_000}).encode()
