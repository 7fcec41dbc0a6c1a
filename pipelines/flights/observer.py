"""What comes out of the pipeline, kept in this process: DirectRunner's workers are its threads.

A module of its own, because functions that travel with a pipeline travel by reference to their module. `__main__` would be
copied, and the copy would do the counting.
"""

import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import apache_beam as beam
from apache_beam.pvalue import PCollection
from apache_beam.transforms.window import FixedWindows, IntervalWindow
from tqdm import tqdm

from beam_unified import ReadProgress, Record
from pipelines.flights.data import DAY_STARTS

_DAY_S = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One batch: when it was read, from which store, and the watermark that the runner had been told by then."""

    seconds: float
    partition: int
    store: str
    watermark: int | None


steps: list[Step] = []
"""Every batch, in the order in which they were read."""

offsets: dict[tuple[int, str], Sequence[int]] = {}
"""The offset of every record that came out, by partition and store."""

flights_per_month: Counter[int] = Counter()
"""Flights by month of their event time, as windows counted them."""

_lock = threading.Lock()
_bar: tqdm = tqdm(disable=True)
_began = 0.0


@contextmanager
def progress_bar(total: int) -> Iterator[None]:
    """Shows a bar, and starts the clock of `steps`."""
    global _bar, _began  # noqa: PLW0603 - a process has one terminal
    _began = time.monotonic()
    with tqdm(total=total, unit=" flights", unit_scale=True, ncols=100) as _bar:
        yield


def on_progress(progress: ReadProgress) -> None:
    """For `ReadUnified`: a point of the figure, and the bar moves on."""
    if progress.store is None:  # held by a sync group: nothing was read
        return
    with _lock:
        steps.append(
            Step(
                seconds=time.monotonic() - _began,
                partition=progress.partition,
                store=progress.store,
                watermark=progress.watermark,
            )
        )
        _bar.set_postfix_str(f"partition {progress.partition} from {progress.store:<7}", refresh=False)
        _bar.update(progress.records)


class KeepOffsets(beam.PTransform):
    """Records -> `offsets`."""

    def expand(self, records: PCollection) -> PCollection:
        """Groups the offsets of a partition and a store."""
        return (
            records
            | beam.Map(_place).with_output_types(tuple[tuple[int, str], int])
            | beam.GroupByKey()
            | beam.Map(_keep_offsets)
        )


class CountPerMonth(beam.PTransform):
    """Anything with event time -> `flights_per_month`, by way of windows of a day (months are not all as long)."""

    def expand(self, records: PCollection) -> PCollection:
        """Counts per window."""
        return (
            records
            | beam.WindowInto(FixedWindows(_DAY_S, offset=DAY_STARTS.seconds))
            | beam.CombineGlobally(beam.combiners.CountCombineFn()).without_defaults()
            | beam.Map(_keep_day)
        )


def _place(record: Record) -> tuple[tuple[int, str], int]:
    return (record.partition, record.store), record.offset


def _keep_offsets(group: tuple[tuple[int, str], Iterable[int]]) -> None:
    place, found = group
    offsets[place] = list(found)


def _keep_day(flights: int, window: IntervalWindow = beam.DoFn.WindowParam) -> None:
    with _lock:
        flights_per_month[window.start.to_utc_datetime().month] += flights
