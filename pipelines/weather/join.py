"""The join: flights with the weather of their airport and hour, from keyed state that timers clean.

The key is airport and day. Of a day, the state holds

- observations, until the watermark has passed the day by `keep` (an event-time timer). No flight of that day comes after
  that: the watermark is the slower topic's, and flights are less than `max_out_of_orderness` out of order;
- flights that have come before their weather, for `patience` of processing time (a processing-time timer). Then they go out
  without. A dashboard cannot wait for ever, and what waits must not fill the disk: that is how such jobs are written, as
  a timer or as Flink's state TTL, which knows processing time only.
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

Rows = tuple[Literal["flights", "weather"], Sequence[Any]]
"""Flights or observations of one day of an airport."""

Joined = tuple[int, int, bool, float | None]
"""Partition and offset of a flight, whether it has weather, and the temperature at its departure."""


class DaysOf(beam.DoFn):
    """Records -> (key, rows): what a bundle has of a day is one element, so that the join reads its state once for it."""

    def __init__(self, kind: Literal["flights", "weather"], event_time: str) -> None:
        """Of one topic; `event_time` is the field that has it."""
        self._kind: Literal["flights", "weather"] = kind
        self._event_time = event_time

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


class JoinInState(beam.DoFn):
    """(key, rows) of both topics -> `Joined`, each flight once.

    Args:
        patience: How long a flight waits for its weather, in processing time.
        keep: How long a day is kept after the watermark has passed it, in event time.
        folder: For the ledger: how many rows the state holds.
    """

    OBSERVATIONS = BagStateSpec("observations", PickleCoder())
    WAITING = BagStateSpec("waiting", PickleCoder())
    PATIENCE = TimerSpec("patience", TimeDomain.REAL_TIME)
    CLEAN = TimerSpec("clean", TimeDomain.WATERMARK)

    def __init__(self, *, patience: timedelta, keep: timedelta, folder: Path) -> None:
        self._patience_ms = patience // timedelta(milliseconds=1)
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
        patience: Any = beam.DoFn.TimerParam(PATIENCE),
        clean: Any = beam.DoFn.TimerParam(CLEAN),
    ) -> Iterator[Joined]:
        """Flights look for their weather, or wait; weather is kept, and looks for those that wait."""
        (_, day), (kind, rows) = element
        clean.set(_instant(day + DAY_MS + self._keep_ms))
        now = SYSTEM_CLOCK.now_ms()
        if kind == "weather":
            for row in rows:
                observations.add(row)
            self._note(now, observations=len(rows))
            arrived = list(waiting.read())
        else:
            arrived = [(now, row) for row in rows]
        if not arrived:
            return
        temperatures = dict(observations.read())
        found = [flight for _, flight in arrived if flight[0] in temperatures]
        without = [(at, flight) for at, flight in arrived if flight[0] not in temperatures]
        yield from (_joined(flight, temperatures) for flight in found)
        if kind == "weather":
            waiting.clear()
            if not without:
                patience.clear()
            self._note(now, waiting=-len(found))
        elif without:
            self._note(now, waiting=len(without))
            if not any(True for _ in waiting.read()):
                patience.set(_instant(now + self._patience_ms))
        for flight in without:
            waiting.add(flight)

    @on_timer(PATIENCE)
    def give_up(
        self,
        waiting: Any = beam.DoFn.StateParam(WAITING),
        patience: Any = beam.DoFn.TimerParam(PATIENCE),
    ) -> Iterator[Joined]:
        """Flights that have waited long enough go out without weather."""
        now = SYSTEM_CLOCK.now_ms()
        arrived = list(waiting.read())
        due = [flight for at, flight in arrived if at + self._patience_ms <= now]
        rest = [(at, flight) for at, flight in arrived if at + self._patience_ms > now]
        waiting.clear()
        for flight in rest:
            waiting.add(flight)
        if rest:
            patience.set(_instant(min(at for at, _ in rest) + self._patience_ms))
        self._note(now, waiting=-len(due))
        yield from (_joined(flight, {}) for flight in due)

    @on_timer(CLEAN)
    def forget(
        self,
        observations: Any = beam.DoFn.StateParam(OBSERVATIONS),
        waiting: Any = beam.DoFn.StateParam(WAITING),
        patience: Any = beam.DoFn.TimerParam(PATIENCE),
    ) -> Iterator[Joined]:
        """The day is over: who still waits, waits for nothing.

        No timer may stay behind: Flink fires no processing-time timers after the last input, and Beam waits for them for ever.
        """
        patience.clear()
        arrived = list(waiting.read())
        self._note(SYSTEM_CLOCK.now_ms(), waiting=-len(arrived), observations=-len(list(observations.read())))
        waiting.clear()
        observations.clear()
        yield from (_joined(flight, {}) for _, flight in arrived)

    def finish_bundle(self) -> None:
        """Writes down how the state has changed."""
        if self._changes:
            ledger.append(self._folder, ledger.STATE, self._changes)

    def _note(self, now: int, *, waiting: int = 0, observations: int = 0) -> None:
        if waiting or observations:
            self._changes.append([now, waiting, observations])


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


def _instant(at_ms: int) -> Timestamp:
    return Timestamp(micros=at_ms * 1_000)
