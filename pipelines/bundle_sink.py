"""A sink for an embedded database: one file, one writer at a time, a transaction a bundle; and the command of its program."""

import argparse
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import apache_beam as beam
import pyarrow as pa
from apache_beam.options.pipeline_options import PipelineOptions

from beam_unified import Stop

ROWS = 200_000
"""A bundle that is larger is committed in parts: memory is bounded, and what is idempotent may be committed early."""

PATIENCE_S = 60.0
"""How long a bundle waits while another worker of this machine has the file. Then it fails, and the runner tries it again."""

_THREADS = threading.Lock()
"""Processes take turns by the database's own lock on its file; the threads of one process share the file, and would clash."""


class BundleSink(beam.DoFn, ABC):
    """Arrow batches -> `commit`, at the end of a bundle at the latest: when the bundle is done, its rows are on disk.

    Beam calls it at least once for every batch: again after a failure, cut otherwise, in another order, perhaps in two workers
    at once. `commit` must make the same of all that.
    """

    def start_bundle(self) -> None:
        """Nothing yet; what a failed bundle left behind is forgotten, for it comes again."""
        self._batches: list[pa.RecordBatch] = []
        self._rows = 0

    def process(self, batch: pa.RecordBatch) -> None:
        """Keeps a batch."""
        self._batches.append(batch)
        self._rows += batch.num_rows
        if self._rows >= ROWS:
            self.finish_bundle()

    def finish_bundle(self) -> None:
        """Commits what is there."""
        if self._rows:
            with _THREADS:
                self.commit(pa.Table.from_batches(self._batches))
        self.start_bundle()

    @abstractmethod
    def commit(self, rows: pa.Table) -> None:
        """Writes rows (schema: `ARROW_SCHEMA`) in one transaction; idempotent."""


def run(build: Callable[..., None], description: str | None, arguments: Sequence[str]) -> None:
    """All that there is now, into the database at the path that comes first; the other arguments are Beam's."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("path")
    chosen, options = parser.parse_known_args(arguments)
    with beam.Pipeline(options=PipelineOptions(options)) as pipeline:
        build(pipeline, chosen.path, stop=Stop.now())
