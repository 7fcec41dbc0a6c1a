"""Names in the archive. Pure and injective: whoever writes the same range writes the same names. Touches nothing.

    <topic>/dt=YYYY-MM-DD/hr=HH/<partition>-<start>-<stop>-<part>of<parts>.parquet      records, by hour of Kafka's timestamp
    <topic>/_commits/<partition>/<start>-<stop>-<min timestamp>-<max timestamp>.json    the flush exists

Offsets are padded to 20 digits, so that names sort; they are parsed as numbers, never compared as text. Timestamps are
milliseconds: 20 digits, `n` before the digits of a time before 1970, `none` in a flush without any timestamp. Records
without a timestamp lie in the folder that hive gives to null: `dt=__HIVE_DEFAULT_PARTITION__`.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from beam_unified.errors import ConfigError
from beam_unified.flushes import Flush

_TOPIC = re.compile(r"[a-zA-Z0-9._-]{1,249}")
_TIME = r"(?:n?\d{20}|none)"
_COMMIT = re.compile(rf"(?P<start>\d{{20}})-(?P<stop>\d{{20}})-(?P<min>{_TIME})-(?P<max>{_TIME})\.json")
_PART = re.compile(r"(?P<partition>\d+)-(?P<start>\d{20})-(?P<stop>\d{20})-(?P<part>\d+)of(?P<parts>\d+)\.parquet")
_NULL = "__HIVE_DEFAULT_PARTITION__"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True, kw_only=True)
class PartName:
    """What the name of a data file says, its hour apart."""

    partition: int
    start: int
    stop: int
    part: int
    parts: int


def check_topic(topic: str) -> str:
    """The topic, if Kafka would accept it (its names need no escaping in paths). Raises ConfigError."""
    if not _TOPIC.fullmatch(topic) or topic in {".", ".."}:
        raise ConfigError(
            f"topic {topic!r} is not a name that Kafka allows: letters, digits, '.', '_' and '-', up to 249."
        )
    return topic


def hour_of(timestamp_ms: int | None) -> int | None:
    """Number of the hour since the epoch in which a record is stored."""
    return None if timestamp_ms is None else timestamp_ms // _HOUR_MS


def hour_folder(hour: int | None) -> str:
    """Folder of an hour, relative to the topic's."""
    if hour is None:
        return f"dt={_NULL}/hr={_NULL}"
    try:
        start = _EPOCH + timedelta(hours=hour)
    except OverflowError:  # beyond the year 9999, where no calendar of a query engine goes either
        return f"dt={_NULL}/hr={hour}"
    return f"dt={start:%Y-%m-%d}/hr={start:%H}"


def part_path(name: PartName, hour: int | None) -> str:
    """Path of a data file, relative to the topic's folder."""
    return f"{hour_folder(hour)}/{name.partition}-{name.start:020d}-{name.stop:020d}-{name.part}of{name.parts}.parquet"


def parse_part(file_name: str) -> PartName | None:
    """What a data file's name says; None for a name of another kind."""
    match = _PART.fullmatch(file_name)
    return None if match is None else PartName(**{key: int(value) for key, value in match.groupdict().items()})


def commits_folder(partition: int) -> str:
    """Folder of a partition's commit objects, relative to the topic's."""
    return f"_commits/{partition}"


def commit_name(flush: Flush) -> str:
    """File name of a flush's commit object."""
    return f"{flush.start:020d}-{flush.stop:020d}-{_time(flush.min_timestamp)}-{_time(flush.max_timestamp)}.json"


def parse_commit(file_name: str) -> Flush | None:
    """The flush that a commit object's name stands for; None for a name of another kind (temporary, hidden)."""
    match = _COMMIT.fullmatch(file_name)
    if match is None:
        return None
    return Flush(int(match["start"]), int(match["stop"]), _parse_time(match["min"]), _parse_time(match["max"]))


def _time(timestamp_ms: int | None) -> str:
    if timestamp_ms is None:
        return "none"
    return f"{timestamp_ms:020d}" if timestamp_ms >= 0 else f"n{-timestamp_ms:020d}"


def _parse_time(text: str) -> int | None:
    if text == "none":
        return None
    return -int(text[1:]) if text.startswith("n") else int(text)
