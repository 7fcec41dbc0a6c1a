"""pipelines/pins_and_views.py over logs in memory: with the gate it is a batch join, view by view; without it is less."""

import json

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


@pytest.mark.rule("S3", "S4")
def test_the_gate_makes_a_replay_exact():
    """S3: view by view what a batch join gives, each once, though pins come slowly (S4)."""
    launch_ms = SYSTEM_CLOCK.now_ms()
    events = pins_load.load(launch_ms, pins=40, views=1_500)
    topics = pins_load.in_memory(events, launch_ms)
    with beam.Pipeline(runner=FnApiRunner()) as p:
        joined = example.build(p, topics.kafka, topics.archive, stops=pins_load.ends(topics), gate=True)
        assert_that(joined, equal_to(_batch_join(topics)), label="view by view")


def _batch_join(topics):
    """(partition, offset, whether its pin was there) of each view, from the records of the log."""
    pins, views = (
        [
            json.loads(record.value) | {"place": (record.partition, record.offset)}
            for record in _records(topics.log(topic))
        ]
        for topic in (pins_load.PINS, pins_load.VIEWS)
    )
    published = {pin["pin"]: pin["at"] for pin in pins}
    return [(*view["place"], published.get(view["pin"], view["at"] + 1) <= view["at"]) for view in views]


def _records(log):
    return [record for n in range(pins_load.PARTITIONS[log.topic]) for record in log.records(n)]


def test_the_command_prints_the_ratios(monkeypatch, capsys):
    """With the gate the same figure as the batch join; without it, by the same drift (S2), a lower one."""
    small = pins_load.load
    monkeypatch.setattr(example, "load", lambda launch_ms: small(launch_ms, pins=30, views=500))
    example.main(RUNNER)
    ratios = dict(line.strip().rsplit("  ", 1) for line in capsys.readouterr().out.splitlines()[1:])
    ratios = {name.strip(): float(found) for name, found in ratios.items()}
    assert 1 > ratios["with gate"] == ratios["batch join"] > ratios["without gate"]


def test_timers_empty_the_state():
    """A pin that nobody has asked for is forgotten; a view that waited for none goes without, and so does one too many."""
    day = example.KEEP_MS // 1_000
    views = [("b", ("view", 1_000, 0, n)) for n in range(example.MAX_WAITING + 1)]
    stream = (
        test_stream.TestStream()
        .add_elements([("a", ("pin", 0, 0, 0)), ("a", ("view", 2_000, 1, 0)), *views])
        .advance_watermark_to(day + 3)
        .add_elements([("a", ("view", example.KEEP_MS + 4_000, 1, 1)), ("b", ("pin", 500, 0, 1))])
        .advance_watermark_to(3 * day)
        .advance_watermark_to_infinity()
    )
    with beam.Pipeline(options=PipelineOptions(["--runner=BundleBasedDirectRunner", "--streaming"])) as p:
        joined = p | stream.with_output_types(tuple[str, example.Seen]) | beam.ParDo(example.LookUpPin())
        assert_that(joined, equal_to([(1, 0, True), (1, 1, False), *((0, n, False) for n in range(len(views)))]))
