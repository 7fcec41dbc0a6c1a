"""What a measured read leaves behind.

A module of its own, so that pipelines pickle it by reference: both runners that are measured run Python in this process.
"""

import time
from dataclasses import dataclass, field

import apache_beam as beam

from beam_unified import ReadProgress


@dataclass
class Stopwatch:
    """When each batch was done, by the clock and by this process's processor time.

    What comes before the first batch is set-up: connecting, listing, submitting.
    """

    began: float = field(default_factory=time.perf_counter)
    batches: list[tuple[float, int]] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)

    def batch(self, records: int) -> None:
        """A batch of so many records is done."""
        self.batches.append((time.perf_counter(), records))
        self.processor.append(time.process_time())

    @property
    def setup_s(self) -> float:
        """Seconds before the first batch was done."""
        return self.batches[0][0] - self.began

    @property
    def records(self) -> int:
        """Records in all batches."""
        return sum(records for _, records in self.batches)

    @property
    def rate(self) -> float:
        """Records a second from the end of the first batch on."""
        return (self.records - self.batches[0][1]) / (self.batches[-1][0] - self.batches[0][0])

    @property
    def rate_of_processor(self) -> float:
        """The same a second of processor time: what else runs on the machine is left out. All must happen in this process."""
        return (self.records - self.batches[0][1]) / (self.processor[-1] - self.processor[0])


current = Stopwatch()
progress: list[ReadProgress] = []
"""What the current read said, batch by batch."""


def restart() -> Stopwatch:
    """A new stopwatch for the next read."""
    global current  # noqa: PLW0603 - observers are pickled by name and must find the one that runs
    current = Stopwatch()
    progress.clear()
    return current


def see(step: ReadProgress) -> None:
    """Observer of `ReadUnified(on_progress=...)`."""
    progress.append(step)
    if step.held_by is None:
        current.batch(step.records)


class Touch(beam.DoFn):
    """The cheapest stage that meets every element."""

    def setup(self) -> None:
        """Counts in this instance."""
        self.count = 0

    def process(self, element: object) -> None:
        """One element."""
        self.count += element is not None
