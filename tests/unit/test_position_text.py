"""Starts and stops as text."""

from datetime import timedelta

import pytest

from beam_unified.errors import ConfigError
from beam_unified.position_text import parse_start, parse_stop
from beam_unified.positions import BeforeNow, Start, Stop


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("earliest", Start.earliest()),
        (" latest ", Start.latest()),
        ("7d", Start.before_now(timedelta(days=7))),
        ("2026-11-16T00:00:00Z", Start.at("2026-11-16T00:00:00Z")),
        ("0:42,1:17", Start.offsets({0: 42, 1: 17})),
    ],
)
def test_a_start_is_what_its_text_says(text, start):
    """The table of the module."""
    assert parse_start(text) == start


@pytest.mark.parametrize(
    ("text", "stop"),
    [
        ("now", Stop.now()),
        ("90s", BeforeNow(90_000)),
        ("2026-11-16T00:00:00+01:00", Stop.at("2026-11-16T00:00:00+01:00")),
        ("3:9", Stop.offsets({3: 9})),
    ],
)
def test_a_stop_is_what_its_text_says(text, stop):
    """The table of the module."""
    assert parse_stop(text) == stop


@pytest.mark.parametrize(
    "text", ["", "yesterday", "7", "7 days", "0:1,0:2", "2026-11-16T00:00:00", "-5:1", "2026-13-01"]
)
@pytest.mark.parametrize("parse", [parse_start, parse_stop])
def test_other_text_is_an_error_that_names_the_option(parse, text):
    """Never a guess."""
    with pytest.raises(ConfigError, match="--from"):
        parse(text, "--from")


def test_a_stop_is_no_start_and_the_other_way_round():
    """Each error says what to write instead."""
    with pytest.raises(ConfigError, match="'latest'"):
        parse_start("now")
    with pytest.raises(ConfigError, match="'now'"):
        parse_stop("latest")
