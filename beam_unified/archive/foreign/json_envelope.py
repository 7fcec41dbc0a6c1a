"""A JSON object a line with a whole record in it, as Lenses' sink writes them with `store.envelope=true`; a stream.

{"key": .., "value": .., "headers": {"name": ..}, "metadata": {"offset": 5, "partition": 0, "timestamp": .., "topic": ".."}}
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import msgspec
import pyarrow as pa

from beam_unified.archive.foreign.codecs import BadFileError
from beam_unified.archive.foreign.columns import Columns
from beam_unified.archive.foreign.layout import Lack

_PIECE = 1024 * 1024
_MAX_LINE = 64 * 1024 * 1024
_NOTHING = msgspec.Raw(b"null")


class _Metadata(msgspec.Struct):
    offset: int
    partition: int
    timestamp: int | None = None
    topic: str | None = None


class _Envelope(msgspec.Struct):
    metadata: _Metadata
    value: msgspec.Raw = _NOTHING
    key: msgspec.Raw = _NOTHING
    headers: dict[str, msgspec.Raw] | None = None


_LINE = msgspec.json.Decoder(_Envelope)


@dataclass(frozen=True, slots=True)
class JsonEnvelope:
    """The format, for `lenses(...)` and `Template`. Lacks nothing.

    Traps: keys, values and headers are what JSON holds of them: the text of a string, or the JSON text of anything else. They are
    Kafka's bytes only where those were such text. Headers are a map: of several with one name there is one.

    Args:
        compression: "gzip" where the files are.
    """

    compression: Literal["gzip"] | None = None
    counted: ClassVar[bool] = False
    lacks: ClassVar[frozenset[Lack]] = frozenset()

    def read(self, file: pa.NativeFile, size_bytes: int, /) -> Iterator[Columns]:
        """The records, some at a time. Raises BadFileError where a line is none, or the file is cut short."""
        at = 0
        for lines in _lines(file if self.compression is None else pa.CompressedInputStream(file, "gzip")):
            found = list[_Envelope]()
            for line in lines:
                at += 1
                try:
                    found.append(_LINE.decode(line))
                except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                    raise BadFileError(f"line {at} is no envelope with metadata.offset ({error})") from error
            yield Columns(
                [_bytes(one.value) for one in found],
                [one.metadata.offset for one in found],
                [_bytes(one.key) for one in found],
                [one.metadata.timestamp for one in found],
                [tuple((name, _bytes(value)) for name, value in (one.headers or {}).items()) for one in found],
            )


def _bytes(raw: msgspec.Raw) -> bytes | None:
    text = bytes(raw)
    if text == b"null":
        return None
    return msgspec.json.decode(text, type=str).encode() if text.startswith(b'"') else text


def _lines(file: pa.NativeFile) -> Iterator[list[bytes]]:
    """Whole lines of a file; every one of them is ended by a newline, but the last one need not be."""
    rest = b""
    while piece := _piece(file):
        *lines, rest = (rest + piece).split(b"\n")
        if len(rest) > _MAX_LINE:
            raise BadFileError(f"a line is longer than {_MAX_LINE} bytes")
        if lines:
            yield [line for line in lines if line]
    if rest:
        yield [rest]


def _piece(file: pa.NativeFile) -> bytes:
    try:
        return bytes(file.read(_PIECE))
    except (pa.ArrowException, OSError) as error:
        raise BadFileError(f"it cannot be decompressed ({error})") from error
