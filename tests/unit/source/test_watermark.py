"""The estimator that Beam sees, over the rules of beam_unified.watermarks."""

import pytest
from apache_beam.runners.sdf_utils import ThreadsafeWatermarkEstimator
from apache_beam.utils.timestamp import MIN_TIMESTAMP, Timestamp

from beam_unified.source.watermark import LogWatermarkEstimator
from beam_unified.watermarks import IdlePolicy, WatermarkState


@pytest.mark.rule("T1")
def test_nothing_known_is_beams_minimum():
    """A partition of which nothing is known holds the output back."""
    assert LogWatermarkEstimator(WatermarkState()).current_watermark() == MIN_TIMESTAMP


@pytest.mark.rule("T4")
def test_records_that_beam_shows_it_do_not_move_it():
    """Beam calls observe_timestamp per record, inside of the call."""
    estimator = LogWatermarkEstimator(WatermarkState(reported=5_000))
    estimator.observe_timestamp(Timestamp(100))
    assert estimator.current_watermark() == Timestamp(micros=5_000)
    assert estimator.get_estimator_state() == WatermarkState(reported=5_000)


@pytest.mark.rule("T4")
def test_it_moves_at_the_start_of_a_call_only():
    """What a call earns is seen by the runner from the next one on."""
    estimator = LogWatermarkEstimator(WatermarkState())
    estimator.start_call()
    estimator.emitted(9_000, 2_000)
    assert estimator.current_watermark() == MIN_TIMESTAMP
    estimator.start_call()
    assert estimator.current_watermark() == Timestamp(micros=7_000)


@pytest.mark.rule("T1")
def test_its_state_is_all_it_needs():
    """An estimator made from the state of another goes on as that one would."""
    first = LogWatermarkEstimator(WatermarkState())
    first.emitted(9_000, 2_000)
    first.nothing_new(50, 0, IdlePolicy(advance=True, timeout_ms=100))
    second = LogWatermarkEstimator(first.get_estimator_state())
    second.nothing_new(150, 0, IdlePolicy(advance=True, timeout_ms=100))
    second.start_call()
    assert second.current_watermark() == Timestamp(micros=150_000)


def test_its_methods_pass_through_beams_lock():
    """`process` sees it behind a proxy that forwards by name."""
    estimator = ThreadsafeWatermarkEstimator(LogWatermarkEstimator(WatermarkState()))
    estimator.emitted(9_000, 2_000)
    estimator.busy()
    estimator.start_call()
    assert estimator.current_watermark() == Timestamp(micros=7_000)
