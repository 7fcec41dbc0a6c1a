"""Published pins and their views: a small topic that a large one must not outrun, replayed with and without a gate.

    python -m pipelines.pins_and_views --runner=FnApiRunner

A view looks up its pin in state. Live the pin is there first; where it is not, `MAX_WAITING` views of a pin wait for it, and no
more, for state must be bounded. In a replay hours of views are read in seconds, and those that come before their pin overflow
that. With the gate they wait until published pins are complete up to LAUNCH: history finds its pins at once, the small tail fits
into the buffer, and the result is that of a batch join. A drift alone bounds by how much time views are ahead, not by how many.

This prints both ratios, over a synthetic load in memory, which takes 15 seconds; `build` is the same over `Kafka` and `Archive`.
All arguments are Beam's pipeline options.
"""

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Literal

import apache_beam as beam
from apache_beam.coders import PickleCoder, VarIntCoder
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import BagStateSpec, ReadModifyWriteStateSpec, TimerSpec, on_timer
from apache_beam.utils.timestamp import Timestamp

from beam_unified import LAUNCH, JsonField, RateLimit, ReadUnified, Record, Stop, SyncGroup
from beam_unified.clock import SYSTEM_CLOCK
from beam_unified.stores import ArchiveSource, KafkaSource
from beam_unified.sync.coordinator import CoordinatorSource, InProcess
from pipelines.pins_load import PINS, VIEWS, batch_ratio, ends, in_memory, load

MAX_WAITING = 5
KEEP_MS = 24 * 3_600_000
"""How long a pin stays in state after the last view of it, in event time."""

MAX_DRIFT = timedelta(hours=2)
PINS_LIMIT = RateLimit(records_per_s=50)
"""Over all workers, in both runs: the store of the pins belongs to others, and this is what they allow."""

IN_PROCESS = InProcess()
"""One worker process; several need `KafkaSyncTopic(kafka=...)`."""

Seen = tuple[Literal["pin", "view"], int, int, int]
"""What it is, event time in ms, partition, offset."""


def by_pin(kind: Literal["pin", "view"], record: Record) -> tuple[str, Seen]:
    """Record -> (pin, what is known of it)."""
    event = json.loads(record.value or b"null")
    return event["pin"], (kind, event["at"], record.partition, record.offset)


class LookUpPin(beam.DoFn):
    """(pin, `Seen`) of both topics -> (partition, offset, whether its pin was there) of each view, once."""

    PUBLISHED = ReadModifyWriteStateSpec("published", VarIntCoder())
    WAITING = BagStateSpec("waiting", PickleCoder())
    FORGET = TimerSpec("forget", TimeDomain.WATERMARK)

    def process(
        self,
        element: tuple[str, Seen],
        published: Any = beam.DoFn.StateParam(PUBLISHED),
        waiting: Any = beam.DoFn.StateParam(WAITING),
        forget: Any = beam.DoFn.TimerParam(FORGET),
    ) -> Iterator[tuple[int, int, bool]]:
        """A pin is kept, and found by those who wait; a view finds it, or waits, or goes without."""
        _, (kind, at_ms, partition, offset) = element
        forget.set(Timestamp(micros=(at_ms + KEEP_MS) * 1_000))
        if kind == "pin":
            published.write(at_ms)
            for viewed_ms, *place in waiting.read():
                yield (*place, at_ms <= viewed_ms)
            waiting.clear()
        elif (since := published.read()) is not None:
            yield partition, offset, since <= at_ms
        elif len(list(waiting.read())) < MAX_WAITING:
            waiting.add((at_ms, partition, offset))
        else:
            yield partition, offset, False

    @on_timer(FORGET)
    def forget_pin(
        self, published: Any = beam.DoFn.StateParam(PUBLISHED), waiting: Any = beam.DoFn.StateParam(WAITING)
    ) -> Iterator[tuple[int, int, bool]]:
        """Nobody has asked for a day: state is empty again, and who still waits goes without."""
        for _, *place in waiting.read():
            yield (*place, False)
        published.clear()
        waiting.clear()


def build(
    pipeline: beam.Pipeline,
    kafka: KafkaSource,
    archive: ArchiveSource,
    *,
    gate: bool,
    stops: Mapping[str, Mapping[int, int]],
    coordinator: CoordinatorSource = IN_PROCESS,
    suffix: str = "",
) -> beam.PCollection:
    """The job. `stops` says where the load ends, by topic and partition: live there would be none."""
    pins, views = PINS + suffix, VIEWS + suffix
    read = partial(
        ReadUnified, kafka=kafka, archive=archive, output="record", timestamp_fn=JsonField("at", unit="ms"),
        sync=SyncGroup("pins-and-views", [pins, views], max_drift=MAX_DRIFT, coordinator=coordinator),
    )  # fmt: skip
    seen = [
        pipeline
        | "Views" >> read(views, stop=Stop.offsets(stops[VIEWS]), wait_for={pins: LAUNCH} if gate else None)
        | "By pin" >> beam.Map(partial(by_pin, "view")).with_output_types(tuple[str, Seen]),
        pipeline
        | "Pins" >> read(pins, stop=Stop.offsets(stops[PINS]), rate_limit=PINS_LIMIT)
        | "Its pin" >> beam.Map(partial(by_pin, "pin")).with_output_types(tuple[str, Seen]),
    ]
    return seen | beam.Flatten() | "Look up" >> beam.ParDo(LookUpPin()).with_output_types(tuple[int, int, bool])


def ratio(options: Sequence[str], **how: Any) -> float:
    """Runs the job; of all views, those that found their pin. Arguments of `build`."""
    with tempfile.TemporaryDirectory() as folder:
        with beam.Pipeline(options=PipelineOptions(list(options))) as pipeline:
            found = build(pipeline, **how) | beam.MapTuple(lambda _partition, _offset, there: int(there))
            _ = found | beam.combiners.Mean.Globally() | beam.io.WriteToText(f"{folder}/ratio", shard_name_template="")
        return float(Path(folder, "ratio").read_text(encoding="utf-8"))


def main(arguments: Sequence[str]) -> None:
    """Loads, runs twice, prints."""
    launch_ms = SYSTEM_CLOCK.now_ms()
    events = load(launch_ms)
    topics = in_memory(events, launch_ms)
    print(f"{len(events[PINS]):,} pins, {len(events[VIEWS]):,} views. Views that found their pin:")
    print(f"  batch join    {batch_ratio(events):.4f}")
    for gate in (True, False):
        found = ratio(arguments, kafka=topics.kafka, archive=topics.archive, stops=ends(topics), gate=gate)
        print(f"  {'with gate' if gate else 'without gate':12}  {found:.4f}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
