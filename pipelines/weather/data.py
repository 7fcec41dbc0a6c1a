"""The data of both topics, moved in time so that history ends at an instant of today, and the join that is right by definition.

Weather is observed once an hour at each of the three airports: 26,115 observations beside 336,776 flights. Event time of an
observation is its hour, that of a flight its scheduled departure; they belong together when airport and hour are the same.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import pandas as pd

from beam_unified.clock import to_ms
from pipelines.flights import data as flights_data

HOUR_MS = 3_600_000

Place = tuple[str, int]
"""Airport, and the beginning of an hour in milliseconds."""


class Event(NamedTuple):
    """A record of either topic.

    Attributes:
        key: Carrier of a flight, airport of an observation.
        value: JSON.
        place: Where it belongs.
        at_ms: Its place in the topic: when the flight left, when the weather was observed.
    """

    key: bytes
    value: bytes
    place: Place
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """A part of 2013, as the data has it.

    Attributes:
        start: What is before is left out.
        launch: History ends here; the live tail begins.
        stop: What is at or after is left out.
    """

    start: datetime
    launch: datetime
    stop: datetime


@dataclass(frozen=True, slots=True)
class Topic:
    """What is written to a topic.

    Attributes:
        history: Before LAUNCH.
        tail: From LAUNCH on.
    """

    history: Sequence[Event]
    tail: Sequence[Event]


class Data(NamedTuple):
    """Both topics, in the order in which they are written."""

    flights: Topic
    weather: Topic
    launch_ms: int


def load(period: Period, *, now_ms: int) -> Data:
    """The flights and the weather of a period, moved so that `period.launch` is the last full hour before now."""
    launch_ms = now_ms // HOUR_MS * HOUR_MS
    shift_ms = launch_ms - to_ms(period.launch)
    first_ms, stop_ms = to_ms(period.start) + shift_ms, to_ms(period.stop) + shift_ms

    def topic(events: Iterable[Event]) -> Topic:
        inside = [event for event in events if first_ms <= event.at_ms < stop_ms]
        history = [event for event in inside if event.at_ms < launch_ms]
        return Topic(history, inside[len(history) :])

    return Data(topic(_flights(shift_ms)), topic(_observations(shift_ms)), launch_ms)


def batch_join(flights: Iterable[Place], weather: Iterable[Place]) -> list[bool]:
    """Whether a flight has weather, for each flight: what a join of the two whole files gives. Pure."""
    observed = set(weather)
    return [place in observed for place in flights]


def place_of(airport: str, at_ms: int) -> Place:
    """Where something belongs."""
    return airport, at_ms // HOUR_MS * HOUR_MS


def _flights(shift_ms: int) -> Iterable[Event]:
    for flight in flights_data.load(shift_ms=shift_ms):
        origin = json.loads(flight.value)["origin"]
        yield Event(flight.key, flight.value, place_of(origin, flight.scheduled_ms), flight.departed_ms)


def _observations(shift_ms: int) -> Iterable[Event]:
    table = flights_data.packaged("weather")
    observed = flights_data.milliseconds(pd.to_datetime(table.time_hour)) + shift_ms
    table = table.assign(observed=observed).sort_values(["observed", "origin"], kind="stable")
    for row in table[["observed", "origin", "temp", "wind_speed", "visib"]].astype(object).to_dict("records"):
        known = {name: None if pd.isna(value) else value for name, value in row.items()}
        place = place_of(row["origin"], row["observed"])
        yield Event(row["origin"].encode(), json.dumps(known).encode(), place, row["observed"])
