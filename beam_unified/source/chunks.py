"""What the splittable DoFn emits: a batch with its event times; and `Explode`, which makes elements of it.

Why not elements at once: Beam calls the watermark estimator for every element that leaves a splittable DoFn, with a
`Timestamp` object and under a lock, about 2 us a record; it does not for an ordinary DoFn. Runners fuse the two, so a
chunk never leaves the worker; where one would, `coders.ChunkCoder` writes it down. A chunk's own timestamp is the
smallest of its records, so that it holds the watermark wherever it is.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any, Literal

import apache_beam as beam
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils import windowed_value
from apache_beam.utils.windowed_value import PANE_INFO_UNKNOWN, WindowedValue

from beam_unified.records import Batch

Output = Literal["value", "record"]

WINDOWS = (GlobalWindow(),)


@dataclass(frozen=True, slots=True)
class Chunk:
    """Records and their event times.

    Attributes:
        batch: The records, at least one.
        micros: Event times in microseconds since the epoch, one a record.
    """

    batch: Batch
    micros: Sequence[int]


class Explode(beam.DoFn):
    """Chunk -> its values or records, each with its own event time, as ready-made windowed values."""

    def __init__(self, output: Output) -> None:
        self._output = output

    def process(self, chunk: Chunk) -> Iterator[WindowedValue]:
        """One chunk."""
        elements: Any = chunk.batch.values() if self._output == "value" else chunk.batch.iter_records()
        return map(windowed_value.create, elements, chunk.micros, repeat(WINDOWS), repeat(PANE_INFO_UNKNOWN))
