"""Layouts from a template of the files' names: for whatever has no layout of its own, for AWS MSK's delivery, and for Lenses."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from beam_unified.archive.foreign.columns import Columns
from beam_unified.archive.foreign.folders import span
from beam_unified.archive.foreign.layout import Completeness, FileName, Format, Lack, OpenFile
from beam_unified.errors import ConfigError
from beam_unified.offsets import MAX_OFFSET

_FIELDS = {
    "partition": "[0-9]{1,10}",
    "start": "[0-9]{1,20}",
    "last": "[0-9]{1,20}",
    "stop": "[0-9]{1,20}",
    "min_timestamp": "-?[0-9]{1,19}",
    "max_timestamp": "-?[0-9]{1,19}",
    "year": "[0-9]{4}",
    "month": "[0-9]{2}",
    "day": "[0-9]{2}",
    "hour": "[0-9]{2}",
    "minute": "[0-9]{2}",
    "*": "[^/]*",
    "**": ".*",
}
_HOLE = re.compile(r"\{([^{}]*)\}")
_MSK_HOLE = re.compile(r"!\{([^{}]*)\}")
_MSK = {
    "channel-id": "{*}", "topic-name": "{topic}", "partition-id": "{partition}", "kafka-offset": "{start}", "yyyy": "{year}",
    "YY": "{*}", "MM": "{month}", "dd": "{day}", "HH": "{hour}", "mm": "{minute}", "sequence-number": "{*}",
}  # fmt: skip
MSK_DEFAULT = (
    "!{channel-id}/!{topic-name}/year=!{yyyy}/month=!{MM}/day=!{dd}/hour=!{HH}/"
    "!{topic-name}+!{partition-id}+!{kafka-offset}"
)
"""The output key template that MSK's delivery has without one."""


@dataclass(frozen=True, slots=True)
class Template:
    """Files named by a template: layout=Template("{topic}/{partition}/{start}.seq", SequenceFiles()).

    Lacks what its format lacks. A name must say partition and offset. Files of tools that keep no offsets (Vector, Fluent Bit,
    Firehose) cannot be read: without offsets a reader could go over to Kafka by time only, which loses records or gives them
    twice. Have such a tool put the offset into names, or archive with `ArchiveTopic`.

    Args:
        names: Path of a file relative to the archive's root, with these in braces: `topic`; `partition`; `start`, the offset at
            which the file begins, `last`, its last one, or `stop`, the one after it; `min_timestamp`, `max_timestamp`, bounds of
            Kafka's timestamps in milliseconds; `year`, `month`, `day`, `hour`, `minute`, in UTC; `*`, anything within a folder's
            or file's name; `**`, anything, folders included. What is there twice must be the same twice.
        format: How a file is read.
        topic: Where `names` has no {topic}: of which topic the files are.
        dense: Where the format holds no offsets: every offset from a file's start on has a record, so that record n of a file is at
            start + n. Where that is wrong records get the offsets of others; it shows only where a file has not as many records as
            there are offsets up to the next file's start, which is an error.
        times: "kafka" where year to minute are of Kafka's timestamps: starts by time then need not read earlier files.
        completeness: What is known about holes.

    Raises:
        ConfigError: a template that does not say enough, or an option that cannot work.
    """

    names: str
    format: Format
    topic: str | None = field(default=None, kw_only=True)
    dense: bool = field(default=False, kw_only=True)
    times: str | None = field(default=None, kw_only=True)
    completeness: Completeness = field(default_factory=Completeness, kw_only=True)

    def __post_init__(self) -> None:
        holes = _HOLE.findall(self.names)
        if unknown := [hole for hole in holes if hole not in {*_FIELDS, "topic"}]:
            raise ConfigError(f"template {self.names!r}: {{{unknown[0]}}} is none of {', '.join(('topic', *_FIELDS))}.")
        if isinstance(self.format, type) or not isinstance(self.format, Format):
            raise ConfigError(f"format is a format such as SequenceFiles(), got {self.format!r}.")
        if not {"start", "last", "stop"} & {*holes} or "partition" not in holes:
            raise ConfigError(
                f"template {self.names!r} names no {'offset' if 'partition' in holes else 'partition'}: without exact offsets a "
                "reader could go over to Kafka by time only, which loses records or gives them twice. So archives of Vector, "
                "Fluent Bit or Firehose cannot be read, unless partition and offset are put into their names; ArchiveTopic writes "
                "an archive that can."
            )
        if ("topic" in holes) == (self.topic is not None):
            raise ConfigError(
                f"template {self.names!r}: say the topic once, by {{topic}} in the names, or by topic='...' where all "
                "files are of one."
            )
        if self.times not in {None, "kafka"}:
            raise ConfigError(f"times must be 'kafka' or None, got {self.times!r}.")
        self._check_density("start" in holes)

    def _check_density(self, start: bool) -> None:
        if not self.format.counted:
            if self.dense:
                raise ConfigError(f"dense=True is for files without offsets; {self.format!r} has them.")
        elif not self.dense or not start:
            raise ConfigError(
                f"{self.format!r} holds no offsets. If every offset has a record (no transactions, no compaction, nothing "
                "dropped) say dense=True, with {start} in the names: record n of a file then is at start + n."
            )
        elif self.completeness.max_hole != 0:
            raise ConfigError("dense=True says that every offset has a record, and completeness that some have none.")

    @property
    def lacks(self) -> frozenset[Lack]:
        """What its format lacks."""
        return self.format.lacks

    def folder(self, topic: str) -> str:
        """What the template says before its first field but {topic}."""
        fixed = _HOLE.split(self.names.replace("{topic}", topic))[0]
        return fixed.rpartition("/")[0]

    def parse(self, topic: str, path: str) -> FileName | None:
        """See `Layout.parse`."""
        if self.topic is not None and self.topic != topic:
            return None
        match = _pattern(self.names, topic).fullmatch(path)
        if match is None:
            return None
        found = match.groupdict()
        numbers = {name: int(text) for name, text in found.items() if name in _NUMBERS and text is not None}
        stop = numbers.get("stop", numbers["last"] + 1 if "last" in numbers else None)
        start = numbers.get("start")
        if any(number > MAX_OFFSET for number in numbers.values()) or (
            start is not None and stop is not None and start >= stop
        ):
            return None
        smallest, largest = (span(found) if self.times == "kafka" else None) or (None, None)
        return FileName(
            partition=numbers["partition"],
            start=start,
            stop=stop,
            min_timestamp=numbers.get("min_timestamp", smallest),
            max_timestamp=numbers.get("max_timestamp", largest),
        )

    def read(self, path: str, open_file: OpenFile) -> Iterator[Columns]:
        """See `Layout.read`."""
        return self.format.read(*open_file(path))

    @property
    def counted(self) -> bool:
        """Whether its format holds no offsets."""
        return self.format.counted

    def stop_of(self, name: FileName, after: int | None, tags: Callable[[], Mapping[str, str]]) -> int | None:
        """The offset after a file's last record, where the name or the next file says it."""
        return after if name.stop is None else name.stop


_NUMBERS = {"partition", "start", "last", "stop", "min_timestamp", "max_timestamp"}


@lru_cache(maxsize=256)
def _pattern(names: str, topic: str) -> re.Pattern[str]:
    pieces, seen = [], set[str]()
    for at, piece in enumerate(_HOLE.split(names)):
        if at % 2 == 0:
            pieces.append(re.escape(piece))
        elif piece == "topic":
            pieces.append(re.escape(topic))
        elif piece in {"*", "**"}:
            pieces.append(_FIELDS[piece])
        else:
            pieces.append(f"(?P={piece})" if piece in seen else f"(?P<{piece}>{_FIELDS[piece]})")
            seen.add(piece)
    return re.compile("".join(pieces))


def msk_delivery(
    format: Format,  # noqa: A002 - what it is
    *,
    template: str = MSK_DEFAULT,
    dense: bool = False,
    completeness: Completeness | None = None,
) -> Template:
    """Files of AWS MSK's data delivery to S3: Archive("s3://bucket/prefix", layout=msk_delivery(ValueLines("gzip"), dense=True)).

    AWS documents the names, and that files hold many records, not how these are separated: look into one before you say
    `ValueLines`.

    Args:
        format: What is in the files.
        template: The channel's output key template, in AWS's own notation (`!{topic-name}`). One with `!{sequence-number}` in
            place of `!{kafka-offset}` names no offsets and is refused.
        dense: As of `Template`.
        completeness: What is known about holes. Records that could not be delivered are in the channel's dead-letter bucket alone.

    Raises:
        ConfigError: a template that does not say enough.
    """
    if unknown := [name for name in _MSK_HOLE.findall(template) if name not in _MSK]:
        raise ConfigError(f"template {template!r}: !{{{unknown[0]}}} is none of {', '.join(_MSK)}.")
    names = _MSK_HOLE.sub(lambda hole: _MSK[hole[1]], template) + "-{*}"
    return Template(names, format, dense=dense, completeness=completeness or Completeness())


def lenses(format: Format, *, prefix: str = "", completeness: Completeness | None = None) -> Template:  # noqa: A002 - what it is
    """Files of Lenses' stream-reactor sink: Archive("s3://bucket", layout=lenses(JsonEnvelope(), prefix="kafka")).

    Its names hold a file's last offset and first and last timestamp. The format must hold offsets, as the envelope does
    (`store.envelope=true`); a file begins where the one before it ended. Custom partitioning (`PARTITIONBY`) names other files,
    which interleave, and is not read.

    Args:
        format: What is in the files.
        prefix: Of the sink.
        completeness: What is known about holes.
    """
    above = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
    names = above + "{topic}/{partition}/{last}_{min_timestamp}_{max_timestamp}.{*}"
    return Template(names, format, completeness=completeness or Completeness())
