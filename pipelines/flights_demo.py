"""The demo: a year of flights, archived while the broker forgets them, then read as one log. No service needed.

    pip install tox && tox run -e demo

Arguments are Beam's pipeline options: `tox run -e demo -- --runner=PrismRunner`. Exit code 1 if a number is wrong.
"""

import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from datetime import timedelta
from itertools import groupby
from pathlib import Path

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from beam_unified import Archive, JsonField, Kafka, ReadUnified, Stop
from beam_unified.clock import SYSTEM_CLOCK
from beam_unified.offsets import OffsetRange
from pipelines.flights import data, observer, report
from pipelines.flights.archiver import Archiver
from pipelines.flights.broker import EmbeddedBroker
from pipelines.flights.checks import PartitionResult, wrong_months

TOPIC = "flights"
FOLDER = Path("demo")
ARCHIVE_FOLDER = FOLDER / "archive"
FIGURE = FOLDER / "watermark.png"

LAST_ARCHIVED_MONTH = 201310
"""Flights that left in November and December stay in Kafka only."""

MAX_OUT_OF_ORDERNESS = timedelta(days=1)
"""No flight of this data was more than a day late; `main` checks that."""

OPTIONS = [
    # What DirectRunner becomes where Prism cannot be downloaded; named, so that the demo is the same on every machine.
    "--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner",
    # For those who choose Prism: when 2.77 splits a bundle of several partitions, it forgets the watermark of the slowest.
    "--experiments=prism_disable_sdf_split",
]


def produce_and_archive(flights: Sequence[data.Flight], broker: EmbeddedBroker, archive: Archive) -> dict[int, int]:
    """Writes the topic month by month; archives each before the broker forgets it, the last ones not at all.

    Returns:
        Where the archive of each partition ends.
    """
    with closing(Archiver(TOPIC, broker.kafka, archive)) as archiver:
        for month, departures in groupby(flights, key=lambda flight: flight.departed_month):
            broker.produce(departures)
            if month <= LAST_ARCHIVED_MONTH:
                archiver.run_once()
        return archiver.archived


def read(kafka: Kafka, archive: Archive, options: PipelineOptions) -> None:
    """The pipeline: everything there is, from the first offset in either store to now."""
    with beam.Pipeline(options=options) as p:
        flights = p | ReadUnified(
            TOPIC,
            kafka,
            archive,
            stop=Stop.now(),
            timestamp_fn=JsonField("scheduled", unit="ms"),
            max_out_of_orderness=MAX_OUT_OF_ORDERNESS,
            output="record",
            on_progress=observer.on_progress,
        )
        flights | "Offsets" >> observer.KeepOffsets()
        flights | "Per month" >> observer.CountPerMonth()


def main(arguments: Sequence[str]) -> int:
    """Produces, archives, reads, checks, shows."""
    began = SYSTEM_CLOCK.monotonic()
    print("1. Load the flights that left New York in 2013.", flush=True)
    flights = data.load()
    out_of_orderness = data.out_of_orderness(flights)
    print(f"   {len(flights):,} flights, in the order in which they left: {out_of_orderness} h out of order at most.")

    print("2. Write them to an embedded Kafka broker; archive January to October.", flush=True)
    shutil.rmtree(ARCHIVE_FOLDER, ignore_errors=True)
    archive = Archive(str(ARCHIVE_FOLDER.absolute()))
    broker = EmbeddedBroker(TOPIC)
    archived = produce_and_archive(flights, broker, archive)
    held = broker.held()
    forgotten = sum(offsets.start for offsets in held.values())
    print(f"   {sum(archived.values()):,} are in files now. Kafka has forgotten {forgotten:,} already.")

    print("3. Read the topic as one log: files, then Kafka.", flush=True)
    with observer.progress_bar(len(flights)):
        read(broker.kafka, archive, PipelineOptions([*OPTIONS, *arguments]))

    print("4. Compare with what was written.\n")
    results = [
        PartitionResult(
            partition=partition,
            written=written,
            archived=OffsetRange(0, archived[partition]),
            kafka=held[partition],
            from_archive=observer.offsets.get((partition, "archive"), ()),
            from_kafka=observer.offsets.get((partition, "kafka"), ()),
        )
        for partition, written in broker.written.items()
    ]
    print(f"{report.partitions_table(results)}\n\n{report.months_table(observer.flights_per_month)}\n")
    report.watermark_figure(observer.steps, FIGURE)
    print(f"   The watermark of every partition against processing time: {FIGURE}")

    problems = [problem for result in results for problem in result.problems()]
    problems += wrong_months(Counter(flight.month for flight in flights), observer.flights_per_month)
    if out_of_orderness > MAX_OUT_OF_ORDERNESS:
        problems.append(f"flights are up to {out_of_orderness} out of order, more than {MAX_OUT_OF_ORDERNESS}")
    for problem in problems:
        print(f"WRONG: {problem}", file=sys.stderr)
    print(f"   {'Not all right' if problems else 'All right'}, after {SYSTEM_CLOCK.monotonic() - began:.0f} seconds.")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
