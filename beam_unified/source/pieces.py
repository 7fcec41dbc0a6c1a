"""A partition without order, as the elements that it is read by: a piece of the archive each, and one for what follows (R7).

Splits that an SDF makes by itself are not enough: portable Flink deals out its input by the hash of the element, so all
restrictions of one element stay on one subtask. Pieces that are elements go to whichever worker is free.

    (topic, partition) -> CutInPieces -> (topic, partition, piece) -> Reshuffle -> reader

A piece keeps the timestamp of its partition, and its restriction the initial watermark: the output is held until each has
been read.
"""

from collections.abc import Iterator

import apache_beam as beam

from beam_unified.source.discovery import ELEMENT_TYPE, Assigned, Element
from beam_unified.source.dofn import ReadBounded, ReadUnbounded


class CutInPieces(beam.PTransform):
    """Partitions -> their pieces, spread over the workers.

    Args:
        reader: The DoFn that will read them: it knows where a partition starts, stops and may be cut.
    """

    def __init__(self, reader: ReadBounded | ReadUnbounded) -> None:
        super().__init__()
        self._reader = reader

    def expand(self, partitions: beam.PCollection) -> beam.PCollection:
        """Elements -> elements."""
        cut = beam.ParDo(_Cut(self._reader)).with_output_types(ELEMENT_TYPE)
        return partitions | "Cut" >> cut | "Spread" >> beam.Reshuffle()


class _Cut(beam.DoFn):
    """Asks the reader for its restrictions, once a partition and job: the pieces are state of the runner from then on."""

    def __init__(self, reader: ReadBounded | ReadUnbounded) -> None:
        self._reader = reader

    def process(self, element: Element) -> Iterator[tuple[object, ...]]:
        """The pieces of one partition."""
        coder = self._reader.restriction_coder()
        for piece in self._reader.split(element, self._reader.initial_restriction(element)):
            yield tuple(Assigned(*element)._replace(piece=coder.encode(piece)))
