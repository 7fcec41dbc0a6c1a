"""A JSON object a line with a whole record in it, as Lenses' sink writes them with `store.envelope=true`; a stream.

{"key": .., "value": .., "headers": {"name": ..}, "metadata": {"offset": 5, "partition": 0, "timestamp": .., "topic": ".."}}
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import msgspec
import pyarrow as pa

from beam_unified.archive.foreign.codecs import BadFileError
from beam_unified.archive.foreign.columns import Columns, Headers
from beam_unified.archive.foreign.formats.streams import batched, converted, opened, separated
from beam_unified.archive.foreign.layout import Lack

_NOTHING = msgspec.Raw(b"null")
_Offset = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Millis = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_Row = tuple[bytes | None, int, bytes | None, int | None, Headers]


class _Metadata(msgspec.Struct):
    offset: _Offset
    partition: int
    timestamp: _Millis | None = None
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
        text = opened(file, size_bytes, self.compression or "none")
        lines = (line for line in separated(text, b"\n", ended=False) if line)  # a newline behind the last one, or none
        found = batched(converted(lines, lambda line: (_row(line), len(line))))
        return (Columns(*zip(*rows, strict=True)) for rows in found)


def _row(line: bytes) -> _Row:
    try:
        found = _LINE.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadFileError(f"it is no envelope with metadata.offset ({error})") from error
    headers = tuple((name, _bytes(value)) for name, value in (found.headers or {}).items())
    return _bytes(found.value), found.metadata.offset, _bytes(found.key), found.metadata.timestamp, headers


def _bytes(raw: msgspec.Raw) -> bytes | None:
    text = bytes(raw)
    if text == b"null":
        return None
    return msgspec.json.decode(text, type=str).encode() if text.startswith(b'"') else text
