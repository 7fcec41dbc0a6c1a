"""What the splittable DoFn emits: a batch with its event times; and `Explode`, which makes elements of it.

Why not elements at once: Beam calls the watermark estimator for every element that leaves a splittable DoFn, with a
`Timestamp` object and under a lock, about 2 us a record; it does not for an ordinary DoFn. Runners fuse the two, so a
chunk never leaves the worker; where one would, `coders.ChunkCoder` writes it down. A chunk's own timestamp is the
smallest of its records, so that it holds the watermark wherever it is.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any, Literal, NamedTuple

import apache_beam as beam
import numpy as np
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils import windowed_value
from apache_beam.utils.windowed_value import PANE_INFO_UNKNOWN, WindowedValue

from beam_unified.decoding.decoder import Decode, Decoder
from beam_unified.records import Batch, Record

Output = Literal["value", "record"]

WINDOWS = (GlobalWindow(),)


@dataclass(frozen=True, slots=True)
class Chunk:
    """Records and their event times.

    Attributes:
        batch: The records, at least one.
        micros: Event times in microseconds since the epoch, one a record.
        elements: Decoded values, one a record. None without a decoder, and behind a coder, which carries only bytes.
    """

    batch: Batch
    micros: "Sequence[int] | np.ndarray"
    elements: Sequence[Any] | None = None


class Decoded(NamedTuple):
    """What `output="record"` gives with a decoder.

    Attributes:
        value: The decoded value.
        record: The record with its raw bytes: what is found bad later can still be set apart whole.
    """

    value: Any
    record: Record


class Explode(beam.DoFn):
    """Chunk -> its values or records, each with its own event time, as ready-made windowed values."""

    def __init__(self, output: Output, decoder: Decoder | None = None) -> None:
        self._output = output
        self._decoder = decoder
        self._decode: Decode | None = None

    def process(self, chunk: Chunk) -> Iterator[WindowedValue]:
        """One chunk."""
        elements: Any
        if self._decoder is None:
            elements = chunk.batch.values() if self._output == "value" else chunk.batch.iter_records()
        else:
            elements = self._decoded(chunk, self._decoder)
            if self._output == "record":
                pairs = zip(elements, chunk.batch.iter_records(), strict=True)
                elements = map(tuple.__new__, repeat(Decoded), pairs)
        return map(windowed_value.create, elements, chunk.micros, repeat(WINDOWS), repeat(PANE_INFO_UNKNOWN))

    def _decoded(self, chunk: Chunk, decoder: Decoder) -> Sequence[Any]:
        if chunk.elements is not None:
            return chunk.elements
        if self._decode is None:
            self._decode = decoder.open()
        return self._decode(chunk.batch)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_decode": None}
