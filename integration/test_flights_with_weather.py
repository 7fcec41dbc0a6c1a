"""The weather example over a month: with the gate it is what a batch join is, without it is not."""

from datetime import UTC, datetime, timedelta

import pytest

from beam_unified import Archive
from beam_unified.clock import SYSTEM_CLOCK
from integration.test_runners import prism_options
from pipelines import flights_with_weather as example
from pipelines.weather import data
from pipelines.weather.topics import write

JANUARY = data.Period(
    start=datetime(2013, 1, 1, tzinfo=UTC),
    launch=datetime(2013, 1, 28, tzinfo=UTC),
    stop=datetime(2013, 2, 1, tzinfo=UTC),
)
WEATHER_RATE = 200  # the month takes eleven seconds
PATIENCE = timedelta(days=7)  # longer than the tail


@pytest.mark.rule("S2", "S3", "S4")
def test_the_gate_makes_a_replay_exact(kafka, tmp_path, prism):
    """S3 with S2: every flight comes out once, with weather where a batch join of the same range has it; without the gate fewer.

    The rate of the weather (S4) is what the large topic outruns.
    """
    january = data.load(JANUARY, now_ms=SYSTEM_CLOCK.now_ms())
    world = write(january, kafka, Archive(str(tmp_path / "archive")), suffix="-january")
    options = [*prism_options(prism), "--streaming"]
    synced, nothing = (
        example.run(world, way, options, tmp_path / way.name, weather_rate=WEATHER_RATE, patience=PATIENCE)
        for way in (example.SYNCHRONISED, example.WAYS[0])
    )
    assert synced.wrong == 0
    assert synced.ratio == synced.batch_ratio
    assert synced.flights == nothing.flights == world.records["flights"]
    assert nothing.matches < nothing.batch_matches
    assert synced.peak.flights < nothing.peak.flights
