"""Rows of Aiven's envelope -> `Columns`. Pure. Which fields a file has, and in CSV in which order, is told, not guessed."""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple, TypeVar, get_args

import msgspec

from beam_unified.archive.foreign.codecs import BadFileError
from beam_unified.archive.foreign.columns import Columns, Headers
from beam_unified.archive.foreign.formats.encoding import Encode, as_json, as_text, of_json

Field = Literal["key", "value", "offset", "timestamp", "headers"]
FIELDS: tuple[Field, ...] = get_args(Field)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_INT64 = 2**63
_T = TypeVar("_T")


class Row(NamedTuple):
    """A record, as `Columns` has many. What the file does not hold is None."""

    value: bytes | None
    offset: int | None = None
    key: bytes | None = None
    timestamp: int | None = None
    headers: Headers | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """What each record of a file holds, and how its parts become bytes.

    Attributes:
        fields: In the file's order, "value" among them.
        value: Of values.
        key: Of keys.
        header: Of the values of headers.
    """

    fields: Sequence[Field]
    value: Encode = as_json
    key: Encode = as_text
    header: Encode = as_text
    _names: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_names", frozenset(self.fields))

    def of_mapping(self, row: Any) -> Row:
        """A decoded record of Avro or Parquet; headers are a map."""
        if not isinstance(row, Mapping):
            raise BadFileError(f"a record with {_listed(self.fields)} was expected, found {type(row).__name__}")
        self._check(row.keys())
        return Row(
            self.value(row["value"]),
            _offset(row["offset"]) if "offset" in row else None,
            self.key(row["key"]) if "key" in row else None,
            _timestamp(row["timestamp"]) if "timestamp" in row else None,
            self._pairs((row["headers"] or {}).items()) if "headers" in row else None,
        )

    def of_json(self, text: bytes) -> Row:
        """An object; what is not looked into stays the text that it is. Timestamps are ISO 8601, headers a list."""
        row = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
        self._check(row.keys())
        return Row(
            of_json(self.value)(row["value"]),
            _offset(msgspec.json.decode(row["offset"])) if "offset" in row else None,
            of_json(self.key)(row["key"]) if "key" in row else None,
            _timestamp(msgspec.json.decode(row["timestamp"])) if "timestamp" in row else None,
            self._pairs(_listed_headers(msgspec.json.decode(row["headers"]))) if "headers" in row else None,
        )

    def of_csv(self, cells: Sequence[bytes]) -> Row:
        """The cells of a line. Empty ones are null: an empty key or value looks the same, and comes back as None."""
        if len(cells) != len(self.fields):
            raise BadFileError(f"it has {len(cells)} fields; {_listed(self.fields)} were expected")
        row = dict(zip(self.fields, cells, strict=True))
        return Row(
            _unpacked(row["value"]),
            _offset(_number(row["offset"])) if "offset" in row else None,
            _unpacked(row["key"]) if "key" in row else None,
            _timestamp(_number(row["timestamp"])) if "timestamp" in row else None,
            _csv_headers(row["headers"]) if "headers" in row else None,
        )

    def columns(self, rows: Sequence[Row]) -> Columns:
        """Rows, a column each."""
        values, offsets, keys, timestamps, headers = zip(*rows, strict=True)
        return Columns(
            values,
            offsets if "offset" in self._names else None,
            keys if "key" in self._names else None,
            timestamps if "timestamp" in self._names else None,
            headers if "headers" in self._names else None,
        )

    def _check(self, found: Any) -> None:
        if found != self._names:
            raise BadFileError(f"it has the fields {_listed(found)}; {_listed(self.fields)} were expected")

    def _pairs(self, headers: Any) -> Headers:
        return tuple((_name(name), self.header(value)) for name, value in headers)


def unwrapped(encode: Encode) -> Callable[[Any], Row]:
    """For files without an envelope: a record is its value, decoded."""
    return lambda value: Row(encode(value))


def _offset(found: Any) -> int:
    if type(found) is not int or not 0 <= found < _INT64:
        raise BadFileError(f"its offset is {str(found)[:40]}")
    return found


def _timestamp(found: Any) -> int | None:
    """Milliseconds, from milliseconds or an instant in ISO 8601."""
    if isinstance(found, str):
        instant = datetime.fromisoformat(found)
        if instant.tzinfo is None:
            raise BadFileError(f"its timestamp {found[:40]!r} has no time zone")
        return (instant - _EPOCH) // _MILLISECOND
    if found is None or (type(found) is int and -_INT64 <= found < _INT64):
        return found
    raise BadFileError(f"its timestamp is {str(found)[:40]}")


def _name(found: Any) -> str:
    if not isinstance(found, str):
        raise BadFileError("the name of a header is no text")
    return found


def _listed_headers(found: Any) -> list[tuple[Any, Any]]:
    if not isinstance(found, list | None):
        raise BadFileError("its headers are no list")
    return [(one["key"], one["value"]) for one in found or ()]


def _unpacked(cell: bytes) -> bytes | None:
    return base64.b64decode(cell, validate=True) if cell else None


def _number(cell: bytes) -> int | None:
    if not cell:
        return None
    if not cell.removeprefix(b"-").isdigit() or len(cell) > len(str(-_INT64)):
        raise BadFileError(f"{cell[:40]!r} is no number")
    return int(cell)


def _csv_headers(cell: bytes) -> Headers:
    found = []
    for pair in cell.removesuffix(b";").split(b";") if cell else ():
        name, colon, value = pair.partition(b":")
        if not colon:
            raise BadFileError("a header has no colon")
        found.append((base64.b64decode(name, validate=True).decode(), base64.b64decode(value, validate=True)))
    return tuple(found)


def _listed(names: Any) -> str:
    return ", ".join(sorted(map(str, names)))[:200] or "none"
