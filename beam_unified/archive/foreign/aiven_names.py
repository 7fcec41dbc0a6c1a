"""Names of Aiven's S3, GCS and Azure sinks, both ways: a prefix, and a template (`file.name.template`). Pure.

    {{topic}}-{{partition}}-{{start_offset}}                                                                        the default
    {{topic}}/{{timestamp:unit=yyyy}}/{{partition:padding=true}}-{{start_offset:padding=true}}.csv.gz

A topic may hold what stands between the variables, so names are taken apart from the right.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from beam_unified.archive.foreign.folders import span
from beam_unified.errors import ConfigError
from beam_unified.offsets import MAX_OFFSET

DEFAULT_TEMPLATE = "{{topic}}-{{partition}}-{{start_offset}}"

_VARIABLE = re.compile(r"\{\{\s*(\w+)\s*(?::\s*(\w+)\s*=\s*(\w+)\s*)?\}\}")
_TOPIC = r"[a-zA-Z0-9._-]{1,249}"
_UNITS = {"yyyy": ("year", 4), "MM": ("month", 2), "dd": ("day", 2), "HH": ("hour", 2)}
_PADDED = {"partition": 10, "start_offset": 20}


@dataclass(frozen=True, slots=True, kw_only=True)
class AivenFile:
    """What a path says.

    Attributes:
        topic: The topic.
        partition: Kafka's.
        start: Offset of the first record of the batch.
        times: Of "year", "month", "day", "hour" those that the template has, as text.
    """

    topic: str
    partition: int
    start: int
    times: tuple[tuple[str, str], ...] = ()

    @property
    def span(self) -> tuple[int, int] | None:
        """First and last millisecond of these times in UTC; None where they say no day."""
        return span(dict(self.times))


@dataclass(frozen=True, slots=True)
class _Variable:
    """A variable of a template, with the digits that it is padded to, or None."""

    name: str
    digits: int | None


@dataclass(frozen=True, slots=True)
class AivenNames:
    """A prefix and a template.

    Raises:
        ConfigError: a template by which a log cannot be read: with {{key}} in it each file holds the newest record of a key
            alone, and is overwritten; without partition or start_offset, or with both side by side, a name does not say what is
            needed.
    """

    template: str = DEFAULT_TEMPLATE
    prefix: str = ""

    def __post_init__(self) -> None:
        parts = _parts(self.template)
        names = [part.name for part in parts if isinstance(part, _Variable)]
        missing = [name for name in ("topic", "partition", "start_offset") if name not in names]
        if missing:
            raise ConfigError(
                f"template {self.template!r} has no {{{{{missing[0]}}}}}: what a file holds could not be told from its name."
            )
        for one, other in pairwise(parts):
            if isinstance(one, _Variable) and isinstance(other, _Variable) and other.digits is None:
                raise ConfigError(
                    f"template {self.template!r} has nothing between {one.name} and {other.name}: where one ends could not be told."
                )
            if isinstance(one, str) and one.isdigit() and parts[0] is not one:
                raise ConfigError(
                    f"template {self.template!r} has {one!r} between numbers: where one ends could not be told."
                )

    @property
    def by_time(self) -> bool:
        """Whether records of one batch may be in several files."""
        return any(isinstance(part, _Variable) and part.name in dict(_UNITS.values()) for part in _parts(self.template))

    def folder(self, topic: str) -> str:
        """Below which all files of a topic are."""
        known = self.prefix
        for part in _parts(self.template):
            if isinstance(part, _Variable) and part.name != "topic":
                break
            known += topic if isinstance(part, _Variable) else part
        return known.rpartition("/")[0]

    def path(self, file: AivenFile) -> str:
        """The path of a file."""
        values: Mapping[str, object] = {
            "topic": file.topic, "partition": file.partition, "start_offset": file.start, **dict(file.times),
        }  # fmt: skip
        return self.prefix + "".join(
            part if isinstance(part, str) else str(values[part.name]).zfill(part.digits or 0)
            for part in _parts(self.template)
        )

    def parse(self, topic: str | None, path: str) -> AivenFile | None:
        """What a path says; None where it is none of the topic, or with None of any topic."""
        match = self._pattern(topic).fullmatch(path)
        if match is None:
            return None
        found = match.groupdict()
        file = AivenFile(
            topic=found.pop("topic"),
            partition=int(found.pop("partition")),
            start=int(found.pop("start_offset")),
            times=tuple(found.items()),
        )
        return file if file.start <= MAX_OFFSET else None

    def _pattern(self, topic: str | None) -> re.Pattern[str]:
        seen, pattern = set[str](), [re.escape(self.prefix)]
        for part in _parts(self.template):
            if isinstance(part, str):
                pattern.append(re.escape(part))
            elif part.name in seen:
                pattern.append(f"(?P={part.name})")
            else:
                digits = r"0|[1-9][0-9]{0,19}" if part.digits is None else f"[0-9]{{{part.digits}}}"
                named = _TOPIC if topic is None else re.escape(topic)
                pattern.append(f"(?P<{part.name}>{named if part.name == 'topic' else digits})")
                seen.add(part.name)
        return re.compile("".join(pattern))


@lru_cache(maxsize=64)
def _parts(template: str) -> list[str | _Variable]:
    found, at = list[str | _Variable](), 0
    for match in _VARIABLE.finditer(template):
        if at < match.start():
            found.append(template[at : match.start()])
        found.append(_variable(template, *match.groups()))
        at = match.end()
    if at < len(template):
        found.append(template[at:])
    return found


def _variable(template: str, name: str, option: str | None, value: str | None) -> _Variable:
    if name == "key":
        raise ConfigError(
            f"template {template!r} names files by key: each holds the newest record of a key alone and is overwritten, "
            "so there is no log to read. Write another archive, by a template with partition and start_offset."
        )
    if name == "topic" and option is None:
        return _Variable(name, None)
    if name in _PADDED and (option is None or (option == "padding" and value in {"true", "false"})):
        return _Variable(name, _PADDED[name] if value == "true" else None)
    if name == "timestamp" and option == "unit" and value in _UNITS:
        return _Variable(*_UNITS[value])
    raise ConfigError(
        f"template {template!r} has {name!r} in it" + (f" with {option}={value}" if option else "") + "; known are "
        "topic, partition and start_offset, the last two with padding=true, and timestamp with unit=yyyy, MM, dd or HH."
    )
