"""pipelines/pins_and_views.py over logs in memory: with the gate it is a batch join, view by view; without it is less."""

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing import test_stream
from apache_beam.testing.util import assert_that, equal_to

from beam_unified.clock import SYSTEM_CLOCK
from pipelines import pins_and_views as example
from pipelines import pins_load

RUNNER = ["--runner=FnApiRunner"]


@pytest.mark.rule("S2", "S3", "S4")
def test_the_gate_makes_a_replay_exact():
    """S3: the ratio of a batch join, and every view comes out once. Drift (S2) alone loses some: pins come slowly (S4)."""
    launch_ms = SYSTEM_CLOCK.now_ms()
    events = pins_load.load(launch_ms, pins=100, views=4_000)
    topics = pins_load.in_memory(events, launch_ms)
    world = {"kafka": topics.kafka, "archive": topics.archive, "stops": pins_load.ends(topics)}
    with beam.Pipeline(runner=FnApiRunner()) as p:
        joined = example.build(p, **world, gate=True)
        assert_that(joined, equal_to(_batch_join(topics)), label="view by view")
    assert example.ratio(RUNNER, **world, gate=False) < pins_load.batch_ratio(events) < 1


def _batch_join(topics):
    """(partition, offset, whether its pin was there) of each view, from the records of the log."""
    pins, views = (
        [
            example.by_pin(kind, record)
            for n in range(pins_load.PARTITIONS[topic])
            for record in topics.log(topic).records(n)
        ]
        for topic, kind in ((pins_load.PINS, "pin"), (pins_load.VIEWS, "view"))
    )
    published = {pin: at for pin, (_, at, _, _) in pins}
    return [(partition, offset, published.get(pin, at + 1) <= at) for pin, (_, at, partition, offset) in views]


def test_the_command_prints_the_ratios(monkeypatch, capsys):
    """With the gate the same figure as the batch join."""
    small = pins_load.load
    monkeypatch.setattr(example, "load", lambda launch_ms: small(launch_ms, pins=30, views=500))
    example.main(RUNNER)
    ratios = dict(line.strip().rsplit("  ", 1) for line in capsys.readouterr().out.splitlines()[1:])
    ratios = {name.strip(): float(found) for name, found in ratios.items()}
    assert ratios["with gate"] == ratios["batch join"] > ratios["without gate"]


def test_timers_empty_the_state():
    """A pin that nobody has asked for is forgotten; a view that waited for none goes without, and so does one too many."""
    day = example.KEEP_MS // 1_000
    views = [("b", ("view", 1_000, 0, n)) for n in range(example.MAX_WAITING + 1)]
    stream = (
        test_stream.TestStream()
        .add_elements([("a", ("pin", 0, 0, 0)), ("a", ("view", 2_000, 1, 0)), *views])
        .advance_watermark_to(day + 3)
        .add_elements([("a", ("view", example.KEEP_MS + 4_000, 1, 1)), ("b", ("pin", 500, 0, 1))])
        .advance_watermark_to_infinity()
    )
    with beam.Pipeline(options=PipelineOptions(["--runner=BundleBasedDirectRunner", "--streaming"])) as p:
        joined = p | stream.with_output_types(tuple[str, example.Seen]) | beam.ParDo(example.LookUpPin())
        assert_that(joined, equal_to([(1, 0, True), (1, 1, False), *((0, n, False) for n in range(len(views)))]))
