"""Values of Confluent's sinks beside their keys and headers, which lie in files of their own, row for row. Pure.

The sink writes the three files of a batch row by row and commits one after another; a worker that died between may have left
files of different attempts, which only their lengths show.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import chain, islice
from typing import Any

import msgspec

from beam_unified.archive.foreign.codecs import BadFileError
from beam_unified.archive.foreign.columns import Columns, Headers
from beam_unified.archive.foreign.formats.encoding import Encode

Lists = Iterator[list[Any]]


def aligned(values: Lists, keys: Lists | None = None, headers: Lists | None = None) -> Iterator[Columns]:
    """Values with the keys and headers of the same rows. Raises BadFileError where there are more of one than of another."""
    sides = {
        name: chain.from_iterable(side) for name, side in (("keys", keys), ("headers", headers)) if side is not None
    }
    rows = 0
    for batch in values:
        found = {name: list(islice(side, len(batch))) for name, side in sides.items()}
        for name, side in found.items():
            if len(side) < len(batch):
                raise BadFileError(f"its file of {name} has {rows + len(side)} rows, fewer than there are values")
        rows += len(batch)
        yield Columns(batch, keys=found.get("keys"), headers=found.get("headers"))
    for name, rest in sides.items():
        if next(rest, None) is not None:
            raise BadFileError(f"its file of {name} has more rows than the {rows} values")


def key_of(encode: Encode) -> Callable[[Any], bytes | None]:
    """For files of keys in Parquet, whose rows are records with the one field "key"."""
    return lambda row: encode(row["key"])


def headers_of(encode: Encode) -> Callable[[Any], Headers]:
    """For files of headers: a list of key and value, in JSON and Parquet within a record with the one field "headers"."""

    def convert(row: Any) -> Headers:
        found = row["headers"] if isinstance(row, Mapping) else row
        return tuple((str(one["key"]), encode(one["value"])) for one in found)

    return convert


def headers_of_json(encode: Encode) -> Callable[[bytes], Headers]:
    """For files of headers in JSON."""
    convert = headers_of(encode)
    return lambda text: convert(msgspec.json.decode(text))
