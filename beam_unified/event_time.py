"""Event time of records: ready-made timestamp functions, and the one way in which any of them is called.

A timestamp function is mandatory, so that nobody gets event time by accident. It is `Record -> instant`, where an
instant is an aware `datetime` or anything with `micros` (Beam's `Timestamp`); a bare number is refused, because its
unit could only be guessed. The ready-made ones work a batch at a time and are three to ten times as fast.

With a decoder the function gets the decoded value instead, which is decoded once, and `Field` looks into it.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from beam_unified.errors import BadRecordError, ConfigError
from beam_unified.records import Batch, Record

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

MAX_MICROS = 9_223_372_036_854_775_000
"""Largest and, negated, smallest event time that Beam can carry, in microseconds since the epoch (Beam rounds to ms)."""


@runtime_checkable
class HasMicros(Protocol):
    """An instant that knows its microseconds since the epoch, like Beam's `Timestamp`."""

    @property
    def micros(self) -> int:
        """Microseconds since the epoch."""
        ...


@runtime_checkable
class EventTime(Protocol):
    """Event time of a batch. Must be picklable and without state."""

    def micros(self, batch: Batch) -> Sequence[int]:
        """Event times in microseconds since the epoch, one a record. Raises BadRecordError."""
        ...


@runtime_checkable
class ElementTime(Protocol):
    """Event time of decoded values. Must be picklable and without state."""

    def micros_of(self, elements: Sequence[Any], batch: Batch) -> Sequence[int]:
        """Event times in microseconds since the epoch, one a value; `batch` holds their records. Raises BadRecordError."""
        ...


TimestampFn = EventTime | ElementTime | Callable[[Any], datetime | HasMicros]


@dataclass(frozen=True, slots=True)
class KafkaTimestamp:
    """Kafka's own timestamp: when the record was produced, or appended (`message.timestamp.type`)."""

    def micros(self, batch: Batch) -> Sequence[int]:
        """Event times of a batch."""
        timestamps = batch.timestamps()
        try:
            return [timestamp * 1_000 for timestamp in timestamps]  # type: ignore[operator]  # None is what we catch
        except TypeError:
            record = batch.records()[list(timestamps).index(None)]
            raise _bad(
                record, "has no Kafka timestamp (produced before Kafka 0.10); use another timestamp_fn"
            ) from None


@dataclass(frozen=True, slots=True)
class JsonField:
    """A field of a JSON value, for example `JsonField("event.time", unit="ms")`.

    Args:
        field: Name of the field; dots go into nested objects.
        unit: "s", "ms", "us" for numbers since the epoch (fractions are kept to the microsecond), "iso8601" for text
            with a zone.
    """

    field: str
    unit: Literal["s", "ms", "us", "iso8601"]

    def __post_init__(self) -> None:
        if self.unit not in _CONVERT.keys() - {"datetime"}:
            raise ConfigError(f"JsonField unit must be 's', 'ms', 'us' or 'iso8601', got {self.unit!r}.")

    def micros(self, batch: Batch) -> Sequence[int]:
        """Event times of a batch."""
        path, convert, loads = self.field.split("."), _CONVERT[self.unit], json.loads
        result: list[int] = []
        try:
            for value in batch.values():
                found: Any = loads(value)  # type: ignore[arg-type]  # a tombstone is what we catch
                for name in path:
                    found = found[name]
                result.append(convert(found))
        except (TypeError, ValueError, KeyError, IndexError, OverflowError) as error:
            record = batch.records()[len(result)]
            raise _bad(record, f"has no usable JSON field {self.field!r} ({type(error).__name__}: {error})") from error
        return result


@dataclass(frozen=True, slots=True)
class Field:
    """A field of the decoded value, for example `Field("published_at", unit="ms")`: an attribute, or a key of a dict.

    Args:
        field: Name of the field; dots go into nested values.
        unit: As of `JsonField`; "datetime" for what is an aware datetime (or Timestamp) already.
    """

    field: str
    unit: Literal["s", "ms", "us", "iso8601", "datetime"]

    def __post_init__(self) -> None:
        if self.unit not in _CONVERT:
            raise ConfigError(f"Field unit must be 's', 'ms', 'us', 'iso8601' or 'datetime', got {self.unit!r}.")

    def micros_of(self, elements: Sequence[Any], batch: Batch) -> Sequence[int]:
        """Event times of decoded values."""
        convert, result = _CONVERT[self.unit], list[int]()
        get = _keys(self.field) if isinstance(elements[0], Mapping) else attrgetter(self.field)
        try:
            result.extend(convert(get(element)) for element in elements)
        except (TypeError, ValueError, KeyError, IndexError, AttributeError, OverflowError) as error:
            record = batch.records()[len(result)]
            raise _bad(record, f"has no usable field {self.field!r} ({type(error).__name__}: {error})") from error
        return result


def _keys(path: str) -> Callable[[Any], Any]:
    names = path.split(".")

    def get(found: Any) -> Any:
        for name in names:
            found = found[name] if isinstance(found, Mapping) else getattr(found, name)
        return found

    return get


@dataclass(frozen=True, slots=True)
class _PerElement:
    """Adapts a plain function of a decoded value."""

    function: Callable[[Any], datetime | HasMicros]

    def micros_of(self, elements: Sequence[Any], batch: Batch) -> Sequence[int]:
        function, result = self.function, list[int]()
        for element in elements:
            try:
                result.append(to_micros(function(element)))
            except Exception as error:
                record = batch.records()[len(result)]
                raise _bad(record, f"made timestamp_fn fail ({type(error).__name__}: {error})") from error
        return result


@dataclass(frozen=True, slots=True)
class _PerRecord:
    """Adapts a plain function of a record."""

    function: Callable[[Record], datetime | HasMicros]

    def micros(self, batch: Batch) -> Sequence[int]:
        function = self.function
        result: list[int] = []
        for record in batch.records():
            try:
                result.append(to_micros(function(record)))
            except Exception as error:
                raise _bad(record, f"made timestamp_fn fail ({type(error).__name__}: {error})") from error
        return result


def event_time(timestamp_fn: TimestampFn | None, *, decoded: bool = False) -> EventTime | ElementTime:
    """The batch form of a timestamp function, which gets decoded values or records. Raises ConfigError."""
    if isinstance(timestamp_fn, ElementTime) and not decoded and not isinstance(timestamp_fn, type):
        raise ConfigError(
            f"timestamp_fn={timestamp_fn!r} looks into decoded values: add decoder=Json(...), or take JsonField, which parses "
            "the bytes itself."
        )
    if isinstance(timestamp_fn, EventTime | ElementTime):
        if isinstance(timestamp_fn, type):
            raise ConfigError(f"timestamp_fn is the class {timestamp_fn.__name__}: pass {timestamp_fn.__name__}(...).")
        return timestamp_fn
    if callable(timestamp_fn):
        return _PerElement(timestamp_fn) if decoded else _PerRecord(timestamp_fn)
    raise ConfigError(
        f"timestamp_fn is required, got {timestamp_fn!r}: pass KafkaTimestamp() for Kafka's own timestamp, "
        "JsonField('time', unit='ms') for a field of the value, Field('time', unit='ms') for one of the decoded value, or a "
        "function Record (with a decoder: decoded value) -> aware datetime."
    )


def checked_micros(
    times: EventTime | ElementTime, batch: Batch, elements: Sequence[Any] | None = None
) -> tuple[Sequence[int], int]:
    """Event times of a non-empty batch and the largest of them; raises BadRecordError outside of Beam's range."""
    if isinstance(times, EventTime):
        micros = times.micros(batch)
    else:
        assert elements is not None, "event_time refuses an ElementTime without a decoder"
        micros = times.micros_of(elements, batch)
    newest = max(micros)
    if newest > MAX_MICROS or min(micros) < -MAX_MICROS:
        at = next(i for i, value in enumerate(micros) if not -MAX_MICROS <= value <= MAX_MICROS)
        raise _bad(batch.records()[at], f"has event time {micros[at]} us, which is outside of what Beam can carry")
    return micros, newest


def micros_array(times: EventTime | ElementTime, batch: Batch, elements: Sequence[Any] | None = None) -> "np.ndarray":
    """`checked_micros` as an array of int64; of `KafkaTimestamp` without a Python object a record."""
    if isinstance(times, KafkaTimestamp):
        as_array = getattr(batch, "milliseconds", None)  # a runtime protocol costs more than the rest of this function
        found = _array(batch.timestamps()) if as_array is None else as_array()
        most = MAX_MICROS // 1_000
        if found is not None and -most <= found.min() and found.max() <= most:
            return found * 1_000
    return np.asarray(checked_micros(times, batch, elements)[0], dtype=np.int64)


def _array(timestamps: Sequence[int | None]) -> "np.ndarray | None":
    try:
        return np.array(timestamps, dtype=np.int64)
    except TypeError:  # None among them
        return None


def to_micros(instant: datetime | HasMicros) -> int:
    """Microseconds since the epoch. Raises ValueError without a time zone, TypeError for what is no instant."""
    if isinstance(instant, datetime):
        if instant.tzinfo is None:
            raise ValueError(f"datetime {instant.isoformat()} has no time zone")
        return (instant - _EPOCH) // _MICROSECOND
    if isinstance(instant, HasMicros):
        return instant.micros
    raise TypeError(f"expected an aware datetime or a Timestamp, got {instant!r}: a number has no unit")


def _bad(record: Record, what: str) -> BadRecordError:
    return BadRecordError(
        f"{record.topic}[{record.partition}] offset {record.offset} (from {record.store}) {what}. "
        "Mend timestamp_fn so that it gives this record a time."
    )


def _number(found: object) -> int | float:
    """Refuses text and lists before they are multiplied: Python would repeat them a million times."""
    if isinstance(found, int | float) and not isinstance(found, bool):
        return found
    raise TypeError(f"expected a number, got {type(found).__name__}")


_CONVERT: dict[str, Callable[[Any], int]] = {
    "s": lambda number: round(_number(number) * 1_000_000),
    "ms": lambda number: round(_number(number) * 1_000),
    "us": lambda number: round(_number(number)),
    "iso8601": lambda text: to_micros(datetime.fromisoformat(text)),
    "datetime": to_micros,
}
