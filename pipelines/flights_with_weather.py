"""Why sources are read in step: a year of flights joined with the weather of their airport and hour, four ways, on Flink.

    pip install -e '.[dev,demo]' && python -m pipelines.flights_with_weather --runner flink

This starts Kafka and Flink on this machine (Java 17, Maven), writes both topics, runs the job four times, prints a table, and
draws `demo/watermarks.png`. `--runner prism` does it on Prism (Go). Exit code 1 if the runs do not show what they should.

The job is one that people have: flights look up the weather in state, and one that comes before its weather waits in a bounded
buffer: `PATIENCE` of the topic, ten days of flights. In live operation an observation is there before the planes of its hour
leave. In a replay it is not: here `weather` comes from a store that gives it out slowly (`WEATHER_RATE`, in all four runs), so
the large topic outruns the small one, the buffer is full, and flights go out without weather that is read a minute later.
Event-time timers alone would lose nothing, for the watermark is the slower topic's: then all flights would wait in state.

- "nothing": every reader as fast as it gets.
- "rate limit": flights at the rate at which both topics take equally long. That holds on average, not at each moment.
- "drift": nobody is further ahead than `MAX_DRIFT`. That is more than the buffer holds: a drift must fit the state of the job.
- "gate and drift": flights wait until the weather is complete up to LAUNCH, so history finds its weather at once, and the tail,
  which is shorter than the buffer, loses nothing whatever the drift. Exact, however fast the machine.

The tail is what comes after LAUNCH. It is written before the job begins, so that four runs read the same.
"""

import argparse
import functools
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from beam_unified import LAUNCH, Archive, JsonField, KafkaSyncTopic, RateLimit, ReadUnified, Stop, SyncGroup
from beam_unified.clock import SYSTEM_CLOCK
from integration.services import lifecycle, workers
from integration.services.flink import FlinkCluster, flink_pipeline_options
from integration.services.kafka import KafkaBroker
from integration.services.prism import prism_program
from integration.services.process import Run, named_run
from pipelines.weather import data, ledger, outcome, picture
from pipelines.weather.join import DaysOf, JoinInState, Key, Rows, WriteJoined
from pipelines.weather.topics import FLIGHTS, WEATHER, World, write

YEAR = data.Period(
    start=datetime(2013, 1, 1, tzinfo=UTC),
    launch=datetime(2013, 12, 28, tzinfo=UTC),
    stop=datetime(2014, 1, 2, tzinfo=UTC),
)

WEATHER_RATE = 400
"""Records a second: the store of the weather belongs to others, and this is what they allow. A year takes a minute."""

PATIENCE = timedelta(days=10)
"""How much of its topic a flight lets pass while it waits for its weather: event time, whole days. Longer than the tail."""

MAX_DRIFT = timedelta(days=28)
"""A replay of a year in a minute does six days a second: this is five seconds of it."""

MAX_OUT_OF_ORDERNESS = timedelta(days=1)
"""Of flights: a scheduled departure, in the order of real ones. Weather is in order."""

KEEP = MAX_DRIFT + MAX_OUT_OF_ORDERNESS + timedelta(days=1)
"""How long a day of weather stays in state after the watermark has passed it: longer than drift and disorder."""

FOLDER = Path("demo")


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way to run the job."""

    name: str
    max_drift: timedelta | None = None
    gate: bool = False
    limit_flights: bool = False


SYNCHRONISED = Way(name="gate and drift", max_drift=MAX_DRIFT, gate=True)
WAYS = [
    Way(name="nothing"),
    Way(name="rate limit", limit_flights=True),
    Way(name="drift", max_drift=MAX_DRIFT),
    SYNCHRONISED,
]


def build(
    pipeline: beam.Pipeline, world: World, way: Way, folder: Path, *, weather_rate: float, patience: timedelta
) -> None:
    """The job: two topics in one sync group, joined in state."""
    group = SyncGroup(
        world.name("flights-with-weather"),
        [world.name(FLIGHTS), world.name(WEATHER)],
        max_drift=way.max_drift,
        coordinator=KafkaSyncTopic(kafka=world.kafka),
    )
    read = functools.partial(
        ReadUnified,
        kafka=world.kafka,
        archive=world.archive,
        output="record",
        sync=group,
        on_progress=functools.partial(ledger.note_progress, folder),
    )
    pace = RateLimit(records_per_s=weather_rate * world.records[FLIGHTS] / world.records[WEATHER])
    flights = pipeline | "Read flights" >> read(
        world.name(FLIGHTS),
        stop=Stop.offsets(world.stops[FLIGHTS]),
        timestamp_fn=JsonField("scheduled", unit="ms"),
        max_out_of_orderness=MAX_OUT_OF_ORDERNESS,
        wait_for={world.name(WEATHER): LAUNCH} if way.gate else None,
        rate_limit=pace if way.limit_flights else None,
    )
    weather = pipeline | "Read weather" >> read(
        world.name(WEATHER),
        stop=Stop.offsets(world.stops[WEATHER]),
        timestamp_fn=JsonField("observed", unit="ms"),
        rate_limit=RateLimit(records_per_s=weather_rate),
    )
    _ = (
        [
            flights
            | "Days of flights"
            >> beam.ParDo(DaysOf("flights", "scheduled", patience=patience)).with_output_types(tuple[Key, Rows]),
            weather
            | "Days of weather" >> beam.ParDo(DaysOf("weather", "observed")).with_output_types(tuple[Key, Rows]),
        ]
        | beam.Flatten()
        | beam.ParDo(JoinInState(keep=KEEP, folder=folder))
        | beam.ParDo(WriteJoined(folder))
    )


def run(
    world: World,
    way: Way,
    options: Sequence[str],
    folder: Path,
    *,
    weather_rate: float = WEATHER_RATE,
    patience: timedelta = PATIENCE,
) -> outcome.Outcome:
    """One run, up to its end."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with beam.Pipeline(options=PipelineOptions([*options, f"--job_name={way.name.replace(' ', '-')}"])) as pipeline:
        build(pipeline, world, way, folder, weather_rate=weather_rate, patience=patience)
    return outcome.of_ledger(way.name, folder, world)


@contextmanager
def runner_options(runner: str, services: Run) -> Iterator[list[str]]:
    """Starts what the runner needs, and gives its options."""
    if runner == "prism":
        yield [
            "--runner=PrismRunner",
            f"--prism_location={prism_program()}",
            "--environment_type=LOOPBACK",
            "--streaming",
        ]
        return
    # Two task managers, so that the two workers are two processes.
    cluster = lifecycle.ensure(FlinkCluster, services, functools.partial(FlinkCluster.start, task_managers=2, slots=2))
    with workers.worker_pool(services) as pool:
        extra = [
            "--finish_bundle_before_checkpointing", "--max_bundle_time_mills=100", "--shutdown_sources_after_idle_ms=0",
            "--max_parallelism=8",  # what a deferral leaves behind before beam#39191 grows with it (docs/runners.md)
        ]  # fmt: skip
        yield flink_pipeline_options(
            cluster.job_endpoint, parallelism=2, worker_pool=pool, restarts=0, extra=extra,
            checkpointing_interval=timedelta(seconds=60),
        )  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes, runs, compares, shows."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.flights_with_weather")
    parser.add_argument("--runner", choices=["flink", "prism"], default="flink")
    parser.add_argument("--picture", type=Path, default=FOLDER / "watermarks.png")
    chosen = parser.parse_args(arguments)
    folder = (FOLDER / "weather").absolute()
    shutil.rmtree(folder, ignore_errors=True)
    services = named_run("flights-with-weather")
    services.remove()
    try:
        broker = lifecycle.ensure(KafkaBroker, services)
        print("Writing both topics: history into the archive, the tail to Kafka.", flush=True)
        year = data.load(YEAR, now_ms=SYSTEM_CLOCK.now_ms())
        world = write(year, broker, Archive(str(folder / "archive")))
        print(f"  {world.records[WEATHER]:,} observations, {world.records[FLIGHTS]:,} flights.")
        outcomes = []
        with runner_options(chosen.runner, services) as options:
            for way in WAYS:
                print(f"Running: {way.name}", flush=True)
                outcomes.append(run(world, way, options, folder / way.name.replace(" ", "-")))
                print(outcome.table(outcomes[-1:]), flush=True)
    finally:
        services.remove()
    print(f"\n{outcome.table(outcomes)}\n")
    picture.draw(outcomes, world.launch_ms, chosen.picture)
    print(f"The watermarks: {chosen.picture}")
    problems = outcome.problems(outcomes, SYNCHRONISED.name)
    for problem in problems:
        print(f"WRONG: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
