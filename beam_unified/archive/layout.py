"""Names in the archive. Pure and injective: whoever writes the same range writes the same names. Touches nothing.

    <topic>/dt=YYYY-MM-DD/hr=HH/<partition>-<start>-<stop>-<part>of<parts>.parquet      records, by hour of Kafka's timestamp
    <topic>/_commits/<partition>/<start>-<stop>-<min timestamp>-<max timestamp>.json    the flush exists
    <topic>/_claims/<partition>/<position>.json    what the next flush behind this position will be (`archiver.planning`)

Offsets are padded to 20 digits, so that names sort; they are parsed as numbers, never compared as text. Timestamps are
milliseconds: 20 digits, `n` before the digits of a time before 1970, `none` in a flush without any timestamp. Records
without a timestamp lie in the folder that hive gives to null, `dt=__HIVE_DEFAULT_PARTITION__`, and so do those of hours
that no calendar has (before the year 1, after 9999), each in the folder of its hour's number.

Parsers are exact: what they accept is what the functions here write, character by character. Anything else (a temporary
file, a hidden one, a name of a later release) is None: not ours, to be left alone.
"""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from beam_unified.errors import ConfigError
from beam_unified.flushes import Flush
from beam_unified.offsets import OffsetRange

_NULL = "__HIVE_DEFAULT_PARTITION__"
_TOPIC = re.compile(r"[a-zA-Z0-9._-]{1,249}")
_NUMBER = re.compile(r"0|[1-9][0-9]*")
_TIME = r"(?:n?[0-9]{20}|none)"
_COMMIT = re.compile(rf"(?P<start>[0-9]{{20}})-(?P<stop>[0-9]{{20}})-(?P<min>{_TIME})-(?P<max>{_TIME})\.json")
_CLAIM = re.compile(r"(?P<position>[0-9]{20})\.json")
_PART = re.compile(
    r"(?P<partition>[0-9]+)-(?P<start>[0-9]{20})-(?P<stop>[0-9]{20})-(?P<part>[0-9]+)of(?P<parts>[0-9]+)\.parquet"
)
_HOUR_FOLDER = re.compile(
    rf"dt=(?P<date>[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}})/hr=(?P<hour>[0-9]{{2}})"
    rf"|dt={_NULL}/hr=(?:(?P<number>-?[0-9]{{1,20}})|{_NULL})"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HOUR_MS = 3_600_000
_HOURS_A_DAY = 24
_INT64 = 2**63


@dataclass(frozen=True, slots=True, kw_only=True)
class PartName:
    """What the name of a data file says, its hour apart; `part` counts from 1."""

    partition: int
    start: int
    stop: int
    part: int
    parts: int

    def __post_init__(self) -> None:
        OffsetRange(self.start, self.stop)
        if self.partition < 0:
            raise ValueError(f"a partition is not negative, got {self.partition}")
        if not 1 <= self.part <= self.parts:
            raise ValueError(f"part {self.part} of {self.parts} does not exist: parts count from 1")


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
    except OverflowError:
        return f"dt={_NULL}/hr={hour}"
    return f"dt={start.date().isoformat()}/hr={start.hour:02d}"  # strftime does not pad years below 1000


def part_path(name: PartName, hour: int | None) -> str:
    """Path of a data file, relative to the topic's folder."""
    return f"{hour_folder(hour)}/{name.partition}-{name.start:020d}-{name.stop:020d}-{name.part}of{name.parts}.parquet"


def parse_part(path: str) -> tuple[PartName, int | None] | None:
    """Name and hour of a data file, from its path relative to the topic's folder; None for a path of another kind."""
    folder, _, file_name = path.rpartition("/")
    match, at = _PART.fullmatch(file_name), _HOUR_FOLDER.fullmatch(folder)
    if match is None or at is None:
        return None
    try:
        name = PartName(**{key: int(value) for key, value in match.groupdict().items()})
        hour = _hour_number(at)
    except ValueError:
        return None
    return (name, hour) if part_path(name, hour) == path else None


def commits_folder(partition: int | None = None) -> str:
    """Folder of a partition's commit objects, or of all partitions', relative to the topic's."""
    if partition is None:
        return "_commits"
    if partition < 0:
        raise ValueError(f"a partition is not negative, got {partition}")
    return f"_commits/{partition}"


def parse_partition(folder_name: str) -> int | None:
    """The partition whose commit objects lie in `_commits/<folder_name>`; None for a name of another kind."""
    return int(folder_name) if _NUMBER.fullmatch(folder_name) else None


def commit_name(flush: Flush) -> str:
    """File name of a flush's commit object."""
    return f"{flush.start:020d}-{flush.stop:020d}-{_time(flush.min_timestamp)}-{_time(flush.max_timestamp)}.json"


def parse_commit(file_name: str) -> Flush | None:
    """The flush that a commit object's name stands for; None for a name of another kind (temporary, hidden)."""
    match = _COMMIT.fullmatch(file_name)
    if match is None:
        return None
    try:
        flush = Flush(int(match["start"]), int(match["stop"]), _parse_time(match["min"]), _parse_time(match["max"]))
        return flush if commit_name(flush) == file_name else None
    except ValueError:
        return None


def claims_folder(partition: int) -> str:
    """Folder of a partition's claims, relative to the topic's."""
    return f"_claims/{partition}"


def claim_name(position: int) -> str:
    """File name of the claim for the flush that comes next when the commits reach `position`."""
    return f"{position:020d}.json"


def parse_claim(file_name: str) -> int | None:
    """The position of a claim's name; None for a name of another kind."""
    match = _CLAIM.fullmatch(file_name)
    return None if match is None else int(match["position"])


def _hour_number(match: re.Match[str]) -> int | None:
    if match["date"] is not None:
        day = date.fromisoformat(match["date"])
        return (day - _EPOCH.date()).days * _HOURS_A_DAY + int(match["hour"])
    return None if match["number"] is None else int(match["number"])


def _time(timestamp_ms: int | None) -> str:
    if timestamp_ms is None:
        return "none"
    if not -_INT64 <= timestamp_ms < _INT64:
        raise ValueError(f"a Kafka timestamp is a 64-bit number of milliseconds, got {timestamp_ms}")
    return f"{timestamp_ms:020d}" if timestamp_ms >= 0 else f"n{-timestamp_ms:020d}"


def _parse_time(text: str) -> int | None:
    if text == "none":
        return None
    return -int(text[1:]) if text.startswith("n") else int(text)
