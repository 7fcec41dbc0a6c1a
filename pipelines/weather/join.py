"""The join: flights with the weather of their airport and hour, from keyed state that timers clean.

The key is airport and day. Of a day, the state holds

- observations, until the watermark has passed the day by `keep` (an event-time timer). No flight of that day comes after
  that: the watermark is the slower topic's, and flights are less than `max_out_of_orderness` out of order;
- flights that have come before their weather, until flights of a day `patience` later come by. Then they go out without: what
  waits must not fill the disk, so the buffer holds so much of the topic and not more. It is a bound in event time, so what
  comes of it does not depend on how fast a machine is.
"""

import json
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import apache_beam as beam
from apache_beam.coders import PickleCoder
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import BagStateSpec, TimerSpec, on_timer
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.timestamp import Timestamp
from apache_beam.utils.windowed_value import WindowedValue

from beam_unified import Record
from beam_unified.clock import SYSTEM_CLOCK
from pipelines.weather import ledger
from pipelines.weather.data import HOUR_MS, place_of

DAY_MS = 24 * HOUR_MS

Key = tuple[str, int]
"""Airport, and the beginning of a day."""

Flight = tuple[int, int, int]
"""Hour, and which flight it is: partition and offset."""

Observation = tuple[int, float | None]
"""Hour, and the temperature in it."""

Rows = tuple[Literal["flights", "weather", "passed"], Sequence[Any]]
"""Flights or observations of one day of an airport; or the news that flights are far beyond it, without rows."""

Joined = tuple[int, int, bool, float | None]
"""Partition and offset of a flight, whether it has weather, and the temperature at its departure."""


class DaysOf(beam.DoFn):
    """Records -> (key, rows): what a bundle has of a day is one element, so that the join reads its state once for it.

    Args:
        kind: Which topic.
        event_time: The field that has it.
        patience: Of flights, in whole days: each day of flights tells the day so long before that it has been passed.
    """

    def __init__(
        self, kind: Literal["flights", "weather"], event_time: str, *, patience: timedelta | None = None
    ) -> None:
        self._kind: Literal["flights", "weather"] = kind
        self._event_time = event_time
        self._patience_ms = None if patience is None else patience // timedelta(milliseconds=1)

    def start_bundle(self) -> None:
        """Nothing yet."""
        self._days: dict[Key, list[Any]] = {}

    def process(self, record: Record) -> None:
        """Puts a record to its day."""
        event = json.loads(record.value or b"null")
        airport, hour = place_of(event["origin"], event[self._event_time])
        row = (hour, record.partition, record.offset) if self._kind == "flights" else (hour, event["temp"])
        self._days.setdefault((airport, hour // DAY_MS * DAY_MS), []).append(row)

    def finish_bundle(self) -> Iterator[WindowedValue]:
        """Emits the days, each at its earliest hour."""
        for key, rows in self._days.items():
            at = Timestamp(micros=min(row[0] for row in rows) * 1_000)
            yield WindowedValue((key, (self._kind, rows)), at, (GlobalWindow(),))
            if self._patience_ms is not None:
                airport, day = key
                yield WindowedValue(((airport, day - self._patience_ms), ("passed", ())), at, (GlobalWindow(),))


class JoinInState(beam.DoFn):
    """(key, rows) of both topics -> `Joined`, each flight once.

    Args:
        keep: How long a day is kept after the watermark has passed it, in event time.
        folder: For the ledger: how many rows the state holds.
    """

    OBSERVATIONS = BagStateSpec("observations", PickleCoder())
    WAITING = BagStateSpec("waiting", PickleCoder())
    CLEAN = TimerSpec("clean", TimeDomain.WATERMARK)

    def __init__(self, *, keep: timedelta, folder: Path) -> None:
        self._keep_ms = keep // timedelta(milliseconds=1)
        self._folder = folder

    def start_bundle(self) -> None:
        """Nothing to write down yet."""
        self._changes: list[ledger.Row] = []

    def process(
        self,
        element: tuple[Key, Rows],
        observations: Any = beam.DoFn.StateParam(OBSERVATIONS),
        waiting: Any = beam.DoFn.StateParam(WAITING),
        clean: Any = beam.DoFn.TimerParam(CLEAN),
    ) -> Iterator[Joined]:
        """Flights look for their weather, or wait; weather is kept, and looks for those that wait."""
        (_, day), (kind, rows) = element
        if kind == "passed":
            yield from self._give_up(waiting)
            return
        clean.set(Timestamp(micros=(day + DAY_MS + self._keep_ms) * 1_000))
        if kind == "weather":
            for row in rows:
                observations.add(row)
            self._note(observations=len(rows))
            flights = list(waiting.read())
        else:
            flights = list(rows)
        if not flights:
            return
        temperatures = dict(observations.read())
        without = [flight for flight in flights if flight[0] not in temperatures]
        yield from (_joined(flight, temperatures) for flight in flights if flight[0] in temperatures)
        if kind == "weather":
            waiting.clear()
            self._note(waiting=len(without) - len(flights))
        else:
            self._note(waiting=len(without))
        for flight in without:
            waiting.add(flight)

    @on_timer(CLEAN)
    def forget(
        self,
        observations: Any = beam.DoFn.StateParam(OBSERVATIONS),
        waiting: Any = beam.DoFn.StateParam(WAITING),
    ) -> Iterator[Joined]:
        """The day is over: who still waits, waits for nothing."""
        self._note(observations=-len(list(observations.read())))
        observations.clear()
        yield from self._give_up(waiting)

    def finish_bundle(self) -> None:
        """Writes down how the state has changed."""
        if self._changes:
            ledger.append(self._folder, ledger.STATE, self._changes)

    def _give_up(self, waiting: Any) -> Iterator[Joined]:
        """Flights that have waited long enough go out without weather."""
        flights = list(waiting.read())
        waiting.clear()
        self._note(waiting=-len(flights))
        yield from (_joined(flight, {}) for flight in flights)

    def _note(self, *, waiting: int = 0, observations: int = 0) -> None:
        if waiting or observations:
            self._changes.append([SYSTEM_CLOCK.now_ms(), waiting, observations])


class WriteJoined(beam.DoFn):
    """Where the result goes here: the ledger, with the time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def start_bundle(self) -> None:
        """Nothing yet."""
        self._rows: list[ledger.Row] = []

    def process(self, joined: Joined) -> None:
        """One flight."""
        self._rows.append([SYSTEM_CLOCK.now_ms(), *joined])

    def finish_bundle(self) -> None:
        """Writes them down."""
        if self._rows:
            ledger.append(self._folder, ledger.JOINED, self._rows)


def _joined(flight: Flight, temperatures: dict[int, float | None]) -> Joined:
    hour, partition, offset = flight
    return partition, offset, hour in temperatures, temperatures.get(hour)
