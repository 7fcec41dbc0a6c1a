"""Names of Confluent's S3, GCS, Azure and HDFS sinks, both ways. Pure.

    <topics dir>/<topic>/<folders of the partitioner>/<topic>+<partition>+<first offset>.<extension>             object stores
    <topics dir>/<topic>/<folders of the partitioner>/<topic>+<partition>+<first offset>+<last offset>.<extension>       HDFS
    ... /<topic>+<partition>+<first offset>.keys.<extension>, .headers.<extension>                             beside the values

A topic may hold what stands between the parts, so names are taken apart from the right. Offsets are padded, to any width, and
are numbers here. Folders of Joda's patterns, of field values and of partitions are checked, not believed.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Literal, Protocol

from beam_unified.errors import ConfigError
from beam_unified.offsets import MAX_OFFSET

Side = Literal["", ".keys", ".headers"]

_TOPIC = r"[a-zA-Z0-9._-]{1,249}"
_JODA = re.compile(r"'(?P<quoted>(?:[^']|'')*)'|(?P<letters>([a-zA-Z])\3*)|(?P<other>[^a-zA-Z']+)")
_JODA_FIELDS = {
    "yyyy": ("%04d", "year"), "YYYY": ("%04d", "year"), "M": ("%d", "month"), "MM": ("%02d", "month"), "d": ("%d", "day"),
    "dd": ("%02d", "day"), "H": ("%d", "hour"), "HH": ("%02d", "hour"), "m": ("%d", "minute"), "mm": ("%02d", "minute"),
}  # fmt: skip


@lru_cache(maxsize=64)
def _joda(pattern: str) -> list[tuple[str, str | None]]:
    """Parts of a pattern: text as it is, or a format and the field of a datetime that it is of."""
    found, at = list[tuple[str, str | None]](), 0
    while at < len(pattern):
        match = _JODA.match(pattern, at)
        letters = None if match is None else match["letters"]
        if match is None or (letters is not None and letters not in _JODA_FIELDS):
            raise ConfigError(
                f"path_format {pattern!r} has {letters or pattern[at:]!r} in it; known are text in '...' and "
                f"{', '.join(_JODA_FIELDS)}."
            )
        if letters is not None:
            found.append(_JODA_FIELDS[letters])
        else:
            quoted = match["quoted"]
            found.append((match["other"] if quoted is None else quoted.replace("''", "'") or "'", None))
        at = match.end()
    return found


class Partitioner(Protocol):
    """Which folders there are between a topic's and its files."""

    def matches(self, folders: str, partition: int) -> bool:
        """Whether it could have made them for a file of this partition of Kafka."""
        ...


@dataclass(frozen=True, slots=True)
class DefaultPartitioner:
    """`partition=<n>`: all files of a partition in one folder, one after another."""

    def folders(self, partition: int) -> str:
        """The folder."""
        return f"partition={partition}"

    def matches(self, folders: str, partition: int) -> bool:
        """See `Partitioner`."""
        return folders == self.folders(partition)


@dataclass(frozen=True, slots=True)
class FieldPartitioner:
    """`<field>=<value>/...`, in the order of `partition.field.name`. Values may hold anything, slashes, too."""

    names: tuple[str, ...]

    def folders(self, values: Mapping[str, object]) -> str:
        """The folders of these values."""
        return "/".join(f"{name}={'null' if values[name] is None else values[name]}" for name in self.names)

    def matches(self, folders: str, partition: int) -> bool:
        """See `Partitioner`."""
        return re.fullmatch("/".join(f"{re.escape(name)}=.*" for name in self.names), folders, re.DOTALL) is not None


@dataclass(frozen=True, slots=True)
class TimeBasedPartitioner:
    """`path.format`, a pattern of Joda: quoted text, and year, month, day, hour, minute in digits.

    Raises:
        ConfigError: a pattern with other letters.
    """

    path_format: str

    def __post_init__(self) -> None:
        _joda(self.path_format)

    def folders(self, local: datetime) -> str:
        """The folders of an instant, in the sink's time zone."""
        return "".join(
            text if field is None else text % getattr(local, field) for text, field in _joda(self.path_format)
        )

    def matches(self, folders: str, partition: int) -> bool:
        """See `Partitioner`."""
        pattern = (
            re.escape(text) if field is None else r"\d{1,2}" if text == "%d" else rf"\d{{{text[2]}}}"
            for text, field in _joda(self.path_format)
        )
        return re.fullmatch("".join(pattern), folders, re.ASCII) is not None


DAILY = TimeBasedPartitioner("'year'=YYYY/'month'=MM/'day'=dd")
"""DailyPartitioner."""

HOURLY = TimeBasedPartitioner("'year'=YYYY/'month'=MM/'day'=dd/'hour'=HH")
"""HourlyPartitioner."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfluentFile:
    """What a path says.

    Attributes:
        topic: The topic.
        folders: Of the partitioner.
        partition: Kafka's.
        start: Offset of the first record.
        last: That of the last one; None where names do not say it.
        side: Which of the files of a batch: values, keys, headers.
        extension: What follows, from its first point on.
    """

    topic: str
    folders: str
    partition: int
    start: int
    last: int | None
    side: Side = ""
    extension: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfluentNames:
    """How a sink is set up to name files.

    Attributes:
        extension: A regular expression of what is behind the offsets, its first point, too.
        partitioner: Of `partitioner.class`.
        topics_dir: Of `topics.dir`; "" for none.
        file_delim: Of `file.delim`.
        ends: Whether names hold the last offset (HDFS).
    """

    extension: str
    partitioner: Partitioner = DefaultPartitioner()
    topics_dir: str = "topics"
    file_delim: str = "+"
    ends: bool = False

    def folder(self, topic: str) -> str:
        """Below which all files of a topic are."""
        return f"{self.topics_dir}/{topic}" if self.topics_dir else topic

    def path(self, file: ConfluentFile, width: int = 10) -> str:
        """The path of a file, with offsets of this many digits."""
        offsets = [file.start] if file.last is None else [file.start, file.last]
        numbers = [str(file.partition), *(f"{offset:0{width}d}" for offset in offsets)]
        name = self.file_delim.join([file.topic, *numbers])
        return f"{self.folder(file.topic)}/{file.folders}/{name}{file.side}{file.extension}"

    def parse(self, topic: str | None, path: str) -> ConfluentFile | None:
        """What a path says; None where it is none of the topic, or with None of any topic."""
        above = f"{self.topics_dir}/" if self.topics_dir else ""
        found_topic, _, below = path.removeprefix(above).partition("/")
        folders, _, name = below.rpartition("/")
        match = self._pattern(topic).fullmatch(name)
        if match is None or not path.startswith(above) or found_topic != match["topic"]:
            return None
        last = int(match["last"]) if self.ends else None
        file = ConfluentFile(
            topic=found_topic,
            folders=folders,
            partition=int(match["partition"]),
            start=int(match["start"]),
            last=last,
            side=match["side"] or "",  # type: ignore[arg-type]  # the pattern has these alone
            extension=match["extension"],
        )
        if max(file.start, last or 0) > MAX_OFFSET or (last is not None and last < file.start):
            return None
        return file if self.partitioner.matches(folders, file.partition) else None

    def _pattern(self, topic: str | None) -> re.Pattern[str]:
        delim = re.escape(self.file_delim)
        last = rf"{delim}(?P<last>[0-9]{{1,20}})" if self.ends else ""
        return re.compile(
            rf"(?P<topic>{_TOPIC if topic is None else re.escape(topic)}){delim}(?P<partition>[0-9]{{1,10}}){delim}"
            rf"(?P<start>[0-9]{{1,20}}){last}(?P<side>\.keys|\.headers)?(?P<extension>{self.extension})"
        )
