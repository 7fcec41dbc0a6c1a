"""JSON: a value a line, or one array with an element a line, as Kafka Connect's sinks write them; checked, and left as text.

Neither writer puts a newline inside of a value. The array is Aiven's: brackets in lines of their own, a comma at the end of each
element but the last.
"""

from collections.abc import Callable, Iterator
from typing import TypeVar

from beam_unified.archive.foreign.codecs import BadFileError
from beam_unified.archive.foreign.formats.streams import Compression, batched, converted, opened, separated
from beam_unified.archive.foreign.sequence_file import Readable

_T = TypeVar("_T")


def read(
    file: Readable,
    size_bytes: int,
    convert: Callable[[bytes], _T],
    *,
    compression: Compression = "none",
    ended: bool = True,
    array: bool = False,
) -> Iterator[list[_T]]:
    """The values of a file.

    Args:
        file: At its beginning.
        size_bytes: Its size.
        convert: Of the text of a value.
        compression: Of the whole file.
        ended: Every line ends with a newline, the last one, too (Confluent); else newlines stand between lines (Aiven), and a
            file that was cut at one cannot be told from a whole one.
        array: One array; `ended` is not looked at.
    """
    lines = separated(opened(file, size_bytes, compression), b"\n", ended=ended and not array)
    texts = _elements(lines) if array else lines
    return batched(converted(texts, lambda text: (convert(text), len(text))))


def _elements(lines: Iterator[bytes]) -> Iterator[bytes]:
    if next(lines) != b"[":
        raise BadFileError("it does not begin as an array does, with a [ and a newline")
    previous: bytes | None = None
    for line in lines:
        if line == b"]" and previous is not None:
            yield previous
            if next(lines, None) is not None:
                raise BadFileError("there is more behind the end of the array")
            return
        if previous is not None:
            if not previous.endswith(b","):
                raise BadFileError("an element of the array that is not its last has no comma behind it")
            yield previous[:-1]
        previous = line
    raise BadFileError("the array has no end: the file was cut short")
