"""What is refused, and what is said, about the runner a pipeline was built for."""

import logging

import apache_beam as beam
import pytest
from apache_beam.coders import BytesCoder, StrUtf8Coder
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.direct.direct_runner import BundleBasedDirectRunner
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing import test_stream
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import TimerSpec, on_timer

from beam_unified.errors import ConfigError
from beam_unified.event_time import KafkaTimestamp
from beam_unified.positions import Stop
from beam_unified.source.runners import refuse_old_direct_runner, warn_of_late_loss
from beam_unified.testing import InMemoryLog
from beam_unified.transforms import ReadUnified

NAMES_A_RUNNER = r"--runner=PrismRunner.*FnApiRunner"


class WallClock(beam.DoFn):
    """Sets a processing-time timer."""

    TIMER = TimerSpec("timer", TimeDomain.REAL_TIME)

    def process(self, element, timer=beam.DoFn.TimerParam(TIMER)):
        timer.set(0)
        yield element

    @on_timer(TIMER)
    def fire(self):
        pass


class EventClock(WallClock):
    """Sets an event-time timer: DirectRunner stays what it is."""

    TIMER = TimerSpec("timer", TimeDomain.WATERMARK)

    def process(self, element, timer=beam.DoFn.TimerParam(TIMER)):
        timer.set(0)
        yield element

    @on_timer(TIMER)
    def fire(self):
        pass


def read():
    log = InMemoryLog("pins")
    log.append(0, b"a", timestamp=1)
    return ReadUnified("pins", log.kafka, log.archive, timestamp_fn=KafkaTimestamp(), stop=Stop.offsets({0: 1}))


def keyed(pcollection):
    return pcollection | beam.Map(lambda value: (b"k", value)).with_output_types(tuple[bytes, bytes])


@pytest.mark.rule("B2")
@pytest.mark.parametrize("runner", ["DirectRunner", "SwitchingDirectRunner"])
def test_a_test_stream_before_the_read_is_refused_while_building(runner):
    """DirectRunner would fall back to an implementation on which no splittable DoFn works."""
    pipeline = beam.Pipeline(runner=runner)
    pipeline | "Clock" >> test_stream.TestStream(coder=StrUtf8Coder()).advance_watermark_to_infinity()
    with pytest.raises(ConfigError, match=rf"'Clock.*' is a TestStream.*ReadUnified.*{NAMES_A_RUNNER}"):
        pipeline | read()


@pytest.mark.rule("B2")
def test_a_processing_time_timer_before_the_read_is_refused_while_building():
    """The same fallback; the message names the step."""
    pipeline = beam.Pipeline(runner="DirectRunner")
    keyed(pipeline | beam.Create([b"a"])) | "Wait" >> beam.ParDo(WallClock())
    with pytest.raises(ConfigError, match=rf"'Wait' sets a processing-time timer.*{NAMES_A_RUNNER}"):
        pipeline | read()


@pytest.mark.rule("B2")
def test_an_event_time_timer_is_no_reason_to_refuse():
    """It does not make DirectRunner fall back."""
    pipeline = beam.Pipeline(runner="DirectRunner")
    keyed(pipeline | beam.Create([b"a"])) | "Wait" >> beam.ParDo(EventClock())
    pipeline | read()


@pytest.mark.rule("B2")
def test_a_test_stream_after_the_read_is_refused_when_run():
    """Only run() knows it; the error names the runner to use, not a claim that was never made."""
    pipeline = beam.Pipeline(runner="DirectRunner")
    pipeline | read()
    pipeline | test_stream.TestStream(coder=BytesCoder()).advance_watermark_to_infinity()
    with pytest.raises(ConfigError, match=rf"holds a TestStream or a processing-time timer.*{NAMES_A_RUNNER}"):
        pipeline.run()


@pytest.mark.rule("B2")
def test_a_processing_time_timer_after_the_read_is_refused_when_run():
    """As a TestStream is."""
    pipeline = beam.Pipeline(runner="DirectRunner")
    keyed(pipeline | read()) | beam.ParDo(WallClock())
    with pytest.raises(ConfigError, match=rf"holds a TestStream or a processing-time timer.*{NAMES_A_RUNNER}"):
        pipeline.run()


@pytest.mark.rule("B2")
def test_the_old_direct_runner_is_refused_by_name():
    """Whoever names it gets the same answer."""
    with pytest.raises(ConfigError, match=rf"names BundleBasedDirectRunner.*{NAMES_A_RUNNER}"):
        beam.Pipeline(runner=BundleBasedDirectRunner()) | read()


def test_other_runners_are_let_pass():
    """FnApiRunner takes a TestStream itself."""
    pipeline = beam.Pipeline(runner=FnApiRunner())
    pipeline | test_stream.TestStream(coder=StrUtf8Coder()).advance_watermark_to_infinity()
    pipeline | read()


def test_nobody_is_refused_outside_of_the_old_direct_runner():
    """Every other runner asks for the coder too."""
    refuse_old_direct_runner()


@pytest.mark.rule("T4")
@pytest.mark.parametrize(
    ("flags", "warned"),
    [
        ([], False),
        (["--checkpointing_interval=1000"], True),
        (["--checkpointing_interval=1000", "--finish_bundle_before_checkpointing"], False),
        (["--finish_bundle_before_checkpointing"], False),
    ],
)
def test_checkpoints_without_the_option_that_makes_them_safe_are_warned_of(flags, warned, caplog):
    """Flink then lets the watermark pass buffered output; the message names the option to add."""
    with caplog.at_level(logging.WARNING):
        warn_of_late_loss(PipelineOptions(flags))
    assert bool(caplog.records) == warned
    if warned:
        assert "Add --finish_bundle_before_checkpointing" in caplog.text
        assert "late" in caplog.text


@pytest.mark.rule("T4")
def test_the_warning_comes_while_the_pipeline_is_built(caplog):
    """Not in a worker's log, where nobody looks."""
    options = PipelineOptions(["--checkpointing_interval=1000"])
    with caplog.at_level(logging.WARNING):
        beam.Pipeline(runner=FnApiRunner(), options=options) | read()
    assert "finish_bundle_before_checkpointing" in caplog.text
