"""Times that folders say: year=, month=, day=, hour=, dt=, hr=, min=, in UTC. Pure."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

_DATE = re.compile(r"(?P<year>[0-9]{4})-(?P<month>[0-9]{2})-(?P<day>[0-9]{2})(?:-(?P<hour>[0-9]{2}))?")
_HIVE = {
    "dt": "date", "date": "date", "hr": "hour", "hour": "hour", "min": "minute", "minute": "minute", "year": "year",
    "month": "month", "day": "day",
}  # fmt: skip
_STEPS = {"minute": timedelta(minutes=1), "hour": timedelta(hours=1), "day": timedelta(days=1)}
_MILLISECOND = timedelta(milliseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def hive_time(folders: Sequence[str]) -> tuple[int, int] | None:
    """First and last millisecond of what folders such as `dt=2026-11-16`, `hr=07` stand for; None where they say no day."""
    found: dict[str, str] = {}
    for folder in folders:
        name, _, value = folder.partition("=")
        kind = _HIVE.get(name)
        if kind == "date":
            match = _DATE.fullmatch(value)
            found.update({} if match is None else {k: v for k, v in match.groupdict().items() if v is not None})
        elif kind is not None and value.isascii() and value.isdigit():
            found[kind] = value
    return span(found)


def span(fields: Mapping[str, str]) -> tuple[int, int] | None:
    """First and last millisecond of the smallest of year, month, day, hour, minute that is there; None without a day."""
    names = ["year", "month", "day", "hour", "minute"]
    there = next((at for at, name in enumerate(names) if name not in fields), len(names))
    if there < 3:
        return None
    try:
        start = datetime(*(int(fields[name]) for name in names[:there]), tzinfo=UTC)  # type: ignore[arg-type, misc]  # 3 to 5 numbers
        stop = start + _STEPS[names[there - 1]]
    except (ValueError, OverflowError):
        return None
    return (start - _EPOCH) // _MILLISECOND, (stop - _EPOCH) // _MILLISECOND - 1
