"""Starts and stops as people type them: on a command line, or in YAML. Pure.

| text                     | start                            | stop                             |
| ------------------------ | -------------------------------- | -------------------------------- |
| `earliest`               | `Start.earliest()`               | refused                          |
| `latest`                 | `Start.latest()`                 | refused                          |
| `now`                    | refused: `latest` says it        | `Stop.now()`                     |
| `7d`, `12h`, `90s`       | `Start.before_now("7d")`         | that long before now             |
| `2026-11-16T00:00:00Z`   | `Start.at(...)`                  | `Stop.at(...)`                   |
| `0:42,1:17`              | `Start.offsets({0: 42, 1: 17})`  | `Stop.offsets({0: 42, 1: 17})`   |
"""

import re

from beam_unified.errors import ConfigError
from beam_unified.positions import (
    AtTimestamp,
    BeforeNow,
    Start,
    StartPosition,
    Stop,
    StopPosition,
    duration_ms,
    instant_ms,
)

_OFFSETS = re.compile(r"\d+:\d+(,\d+:\d+)*")
_DURATION = re.compile(r"\d+[smhdw]")


def parse_start(text: str, option: str = "start") -> StartPosition:
    """A start. Raises ConfigError that names the option."""
    text = text.strip()
    match text:
        case "earliest":
            return Start.earliest()
        case "latest":
            return Start.latest()
        case "now":
            raise ConfigError(f"{option}: 'now' is a stop; a start at the end of the log is 'latest'.")
    if _DURATION.fullmatch(text):
        return Start.before_now(text)
    return Start.offsets(_offsets(text, option)) if _OFFSETS.fullmatch(text) else _instant(text, option)


def parse_stop(text: str, option: str = "stop") -> StopPosition:
    """A stop. Raises ConfigError that names the option."""
    text = text.strip()
    match text:
        case "now":
            return Stop.now()
        case "earliest" | "latest":
            raise ConfigError(f"{option}: {text!r} is a start; a stop at what is there already is 'now'.")
    if _DURATION.fullmatch(text):
        return BeforeNow(duration_ms(text, option))
    return Stop.offsets(_offsets(text, option)) if _OFFSETS.fullmatch(text) else _instant(text, option)


def _offsets(text: str, option: str) -> dict[int, int]:
    pairs = [pair.split(":") for pair in text.split(",")]
    found = {int(partition): int(offset) for partition, offset in pairs}
    if len(found) < len(pairs):
        raise ConfigError(f"{option}: {text!r} names a partition twice.")
    return found


def _instant(text: str, option: str) -> AtTimestamp:
    if not re.match(r"\d{4}-", text):
        raise ConfigError(
            f"{option}: {text!r} is none of 'earliest', 'latest', 'now', a duration such as '7d', an instant such as "
            "'2026-11-16T00:00:00Z', or offsets such as '0:42,1:17'."
        )
    return AtTimestamp(instant_ms(text, option))
