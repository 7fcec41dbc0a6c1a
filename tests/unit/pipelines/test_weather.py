"""The pure parts of the weather example: the join that is right by definition, and what is said of a run."""

from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_unified.clock import to_ms
from pipelines import flights_with_weather as example
from pipelines.weather import data, outcome
from pipelines.weather.outcome import Curve, Outcome, Peak

MONTH = data.Period(
    start=datetime(2013, 2, 1, tzinfo=UTC),
    launch=datetime(2013, 2, 22, tzinfo=UTC),
    stop=datetime(2013, 3, 1, tzinfo=UTC),
)
NOW_MS = to_ms(datetime(2026, 11, 24, 20, 35, tzinfo=UTC))

places = st.tuples(st.sampled_from(["EWR", "JFK", "LGA"]), st.integers(0, 5).map(lambda hour: hour * data.HOUR_MS))


@pytest.fixture(scope="module")
def month():
    return data.load(MONTH, now_ms=NOW_MS)


def of(way, *, matches, wrong=0, batch_matches=9):
    return Outcome(
        way=way, flights=10, matches=matches, batch_matches=batch_matches, wrong=wrong, first_match_s=None, seconds=3.0,
        peak=Peak(flights=1_234, observations=2, records=1_235), curves={},
    )  # fmt: skip


@given(st.lists(places), st.lists(places))
def test_the_batch_join_is_what_pandas_joins(flights, weather):
    """A flight matches when its airport and hour have been observed, however often."""
    columns = ["origin", "hour"]
    seen = pd.DataFrame(weather, columns=columns).drop_duplicates()
    merged = pd.DataFrame(flights, columns=columns).astype(seen.dtypes).merge(seen, how="left", indicator=True)
    assert data.batch_join(flights, weather) == [side == "both" for side in merged["_merge"]]


@given(st.sampled_from(["EWR", "JFK"]), st.integers(0, 10**13))
def test_everything_of_an_hour_is_in_one_place(airport, at_ms):
    """A place begins at a full hour, at most an hour before."""
    _, hour = data.place_of(airport, at_ms)
    assert hour % data.HOUR_MS == 0
    assert 0 <= at_ms - hour < data.HOUR_MS


def test_history_ends_at_launch(month):
    """LAUNCH is the last full hour; what is before it is history, in the order in which it happened; the tail follows."""
    assert month.launch_ms == to_ms(datetime(2026, 11, 24, 20, tzinfo=UTC))
    for topic in (month.flights, month.weather):
        times = [event.at_ms for event in [*topic.history, *topic.tail]]
        assert times == sorted(times)
        assert topic.history[-1].at_ms < month.launch_ms <= topic.tail[0].at_ms
        assert month.launch_ms - topic.history[-1].at_ms <= 12 * data.HOUR_MS


def test_shifted_data_matches_as_the_files_do(month):
    """Moving all instants by whole hours changes no match; some flights have no weather, or the ratio would prove little."""
    found = data.batch_join(
        (event.place for event in month.flights.history), (event.place for event in month.weather.history)
    )
    assert 0.9 < sum(found) / len(found) < 1


def test_state_is_kept_longer_than_drift_and_disorder():
    """What the docstring of the example promises."""
    assert example.KEEP > example.MAX_DRIFT + example.MAX_OUT_OF_ORDERNESS


def test_the_tail_is_read_within_the_patience():
    """Else a flight of the tail, where drift alone holds the readers, could give up before its weather has come."""
    hours = (example.YEAR.stop - example.YEAR.launch) / timedelta(hours=1)
    assert 3 * hours / example.WEATHER_RATE < example.PATIENCE.total_seconds()


@given(st.dictionaries(st.tuples(st.integers(0, 3), st.integers(0, 9)), st.booleans()))
def test_exactly_the_expected_is_right(expected):
    """Each flight once, matched as in the batch join."""
    assert outcome.wrong(expected, {flight: [matched] for flight, matched in expected.items()}) == set()
    assert outcome.wrong(expected, {}) == expected.keys()


def test_every_way_to_be_wrong_is_seen():
    """Lost, doubled, matched otherwise, unknown."""
    expected = {(0, 0): True, (0, 1): True, (0, 2): False, (0, 3): True}
    found = {(0, 1): [True, True], (0, 2): [True], (0, 3): [True], (9, 9): [True]}
    assert outcome.wrong(expected, found) == {(0, 0), (0, 1), (0, 2), (9, 9)}


changes = st.lists(st.tuples(st.integers(0, 9), st.integers(-5, 5), st.integers(-5, 5)))


@given(changes)
def test_the_peak_is_the_most_at_a_time(rows):
    """Whatever order the files of the workers are read in: the largest sum of a beginning, and of both at once."""
    peak = outcome.peak(rows)
    assert peak == outcome.peak(sorted(rows, key=lambda row: row[0]))
    assert max(peak.flights, peak.observations, 0) <= max(peak.flights, 0) + max(peak.observations, 0)
    assert peak.records <= peak.flights + peak.observations


def test_a_peak_by_hand():
    """Three flights wait when two observations are kept: five, although the observations peak later."""
    rows = [(3, -3, 7), (1, 3, 0), (2, 0, 2)]
    assert outcome.peak(rows) == Peak(flights=3, observations=9, records=9)


def test_a_phase_ends_where_the_topic_reads():
    """Waits that are close are one phase, unless a batch lies between them; a single one is none."""
    waits = [0.0, 0.4, 0.8, 1.2, 5.0, 5.5, 9.0]
    assert outcome.phases(waits, [0.6, 2.0]) == [(0.0, 0.4), (0.8, 1.2), (5.0, 5.5)]


def test_a_curve_is_that_of_the_slowest_partition():
    """It begins when all partitions have a watermark, and never goes back."""
    events = [
        (0.0, 0, 0, None, "gate"), (0.5, 1, 0, None, "gate"), (1.0, 0, 5, 20, None), (2.0, 1, 5, 10, None),
        (3.0, 1, 5, 30, None), (4.0, 0, 0, 20, "rate"),
    ]  # fmt: skip
    assert outcome.curve(events) == Curve(watermark=[(2.0, 10), (3.0, 20)], held=[(0.0, 0.5)])


def test_the_table_says_what_was_measured():
    """Ratios in per cent, and the header under which they stand; all lines are as long."""
    lines = outcome.table([of("nothing", matches=4), of("gate and drift", matches=9)]).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert [cell.strip() for cell in lines[2].split("|")][1:6] == ["nothing", "4 of 10", "40.000%", "90.000%", "1,234"]


def test_runs_that_prove_nothing_are_told():
    """The gate must be exact, the others must lose."""
    good = [of("nothing", matches=4, wrong=5), of("gate and drift", matches=9)]
    assert outcome.problems(good, "gate and drift") == []
    bad = [of("nothing", matches=9), of("gate and drift", matches=9, wrong=2)]
    assert outcome.problems(bad, "gate and drift") == [
        "nothing: nothing was lost, so it proves nothing",
        "gate and drift: 2 flights differ from the batch join",
    ]
