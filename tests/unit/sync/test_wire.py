"""Bytes in the sync topic: read by other workers, by later versions, by people (S6)."""

from dataclasses import replace

import pytest

from beam_unified.offsets import TopicPartition
from beam_unified.sync import wire
from beam_unified.sync.reports import LimitChange, Phase, RateLimit, Report

REPORT = Report(
    member=TopicPartition("pins", 3),
    watermark=1_794_830_400_000_000,
    position=42,
    phase=Phase.HELD_BY_DRIFT,
    partitions=8,
    claim=125_000_000,
    author="0af3",
    sequence=7,
)
REPORT_KEY = b'[1,"group","run","report","pins",3]'
REPORT_VALUE = (
    b'{"watermark":1794830400000000,"position":42,"phase":"held_by_drift","partitions":8,"claim":125000000,'
    b'"author":"0af3","sequence":7}'
)
CHANGE = LimitChange(topic="pins", limit=RateLimit(records_per_s=100))
CHANGE_KEY, CHANGE_VALUE = b'[1,"group","run","limit","pins"]', b'{"records_per_s":100,"bytes_per_s":null}'


@pytest.mark.rule("B5")
@pytest.mark.parametrize(
    ("entry", "key", "value"), [(REPORT, REPORT_KEY, REPORT_VALUE), (CHANGE, CHANGE_KEY, CHANGE_VALUE)]
)
def test_the_bytes_are_these_for_ever(entry, key, value):
    """Version 1: a job that is upgraded reads what the old one wrote."""
    assert wire.encode("group", "run", entry) == (key, value)
    assert wire.decode(key, value) == entry


@pytest.mark.rule("S6")
def test_keys_of_a_run_are_told_from_all_others():
    """Also from those of a run whose name begins alike, and from those of a version to come."""
    assert REPORT_KEY.startswith(wire.run_prefix("group", "run"))
    assert not REPORT_KEY.startswith(wire.run_prefix("group", "ru"))
    assert not wire.encode("group", "run2", REPORT)[0].startswith(wire.run_prefix("group", "run"))
    assert wire.run_of(REPORT_KEY) == ("group", "run")
    assert wire.run_of(b'[2,"group","run","report","pins",3]') is None
    for foreign in (b"", b"\xff", b"7", b'"text"', b"[]", b"[1]", b"null"):
        assert wire.run_of(foreign) is None


def test_a_kind_of_entry_that_is_not_known_is_passed_over():
    """A newer version may have more to say."""
    assert wire.decode(b'[1,"group","run","hint","pins"]', b"{}") is None


@pytest.mark.parametrize(
    "value", [b"", b"{}", b"[]", b"null", b'{"phase":"flying"}', REPORT_VALUE[:-1] + b',"more":1}']
)
def test_what_is_not_an_entry_is_a_value_error(value):
    """The reader of the topic says so, and goes on."""
    with pytest.raises(ValueError, match=r".+"):
        wire.decode(REPORT_KEY, value)


@pytest.mark.rule("S6")
def test_runs_are_forgotten_as_a_whole_a_week_after_their_last_word():
    """By their newest message; keys that no version of ours wrote are left alone."""
    day = 86_400_000
    keys = [
        wire.encode("group", run, replace(REPORT, member=TopicPartition("pins", n)))[0] for run in "ab" for n in (0, 1)
    ]
    newest = {keys[0]: 0, keys[1]: 10 * day, keys[2]: 0, keys[3]: 9 * day, b"foreign": 0}
    assert wire.runs_to_forget(newest, 16 * day) == []
    assert wire.runs_to_forget(newest, 16 * day + 1) == keys[2:]
    assert wire.runs_to_forget(newest, 17 * day + 1) == keys
