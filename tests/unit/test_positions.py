"""Start and Stop: what users may say, what it becomes, and what they are told when they say it wrong."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_unified.errors import ConfigError
from beam_unified.offsets import MAX_OFFSET
from beam_unified.positions import (
    AtOffsets,
    AtTimestamp,
    AtTopicOffsets,
    BeforeNow,
    Earliest,
    Latest,
    Start,
    Stop,
    check_order,
    pin_start,
    pin_stop,
    start_of,
    stop_of,
)
from tests.strategies import OFFSETS

NOON = datetime(2026, 11, 16, 12, tzinfo=UTC)
NOON_MS = 1_794_830_400_000


@pytest.mark.rule("R6")
@pytest.mark.parametrize(
    "said",
    [
        NOON,
        "2026-11-16T12:00:00Z",
        "2026-11-16T12:00:00+00:00",
        "2026-11-16T13:00:00+01:00",
        NOON.astimezone(timezone(timedelta(hours=-8))),
    ],
)
def test_an_instant_is_the_same_instant_in_every_zone_and_notation(said):
    """Instants are compared as milliseconds since the epoch, whatever zone they were written in."""
    assert Start.at(said) == AtTimestamp(NOON_MS)
    assert Stop.at(said) == AtTimestamp(NOON_MS)


@pytest.mark.parametrize(
    ("said", "milliseconds"),
    [
        ("90s", 90_000),
        ("15m", 900_000),
        ("12h", 43_200_000),
        ("7d", 604_800_000),
        ("2w", 1_209_600_000),
        (" 7d ", 604_800_000),
        (timedelta(days=7), 604_800_000),
        (timedelta(0), 0),
        (timedelta(microseconds=1_999), 1),
    ],
)
def test_a_duration_is_a_timedelta_or_a_number_with_a_unit(said, milliseconds):
    """before_now takes a timedelta or one of the units s, m, h, d, w."""
    assert Start.before_now(said) == BeforeNow(milliseconds)


@pytest.mark.rule("R6")
def test_relative_instants_are_fixed_when_asked_and_only_then():
    """before_now and Stop.now become absolute at one given moment, the same for all partitions."""
    assert pin_start(Start.before_now("1h"), NOON_MS) == AtTimestamp(NOON_MS - 3_600_000)
    assert pin_stop(Stop.now(), NOON_MS) == AtTimestamp(NOON_MS)
    assert pin_stop(BeforeNow(3_600_000), NOON_MS) == AtTimestamp(NOON_MS - 3_600_000)


@pytest.mark.parametrize(
    "position",
    [Start.earliest(), Start.latest(), Start.offsets({0: 4}), Start.offsets({"pins": {0: 4}}), Start.at(NOON)],
)
def test_absolute_starts_do_not_change_when_fixed(position):
    """What does not depend on now is left as it is."""
    assert pin_start(position, NOON_MS) == position


@pytest.mark.parametrize("position", [Stop.offsets({0: 4}), Stop.offsets({"pins": {0: 4}}), Stop.at(NOON)])
def test_absolute_stops_do_not_change_when_fixed(position):
    """What does not depend on now is left as it is."""
    assert pin_stop(position, NOON_MS) == position


def test_earliest_and_latest_are_values_of_their_own():
    """No sentinel offset stands for them."""
    assert Start.earliest() == Earliest()
    assert Start.latest() == Latest()


def test_offsets_are_kept_by_partition():
    """The order in which partitions were named does not matter."""
    assert Start.offsets({1: 5, 0: 7}) == Start.offsets({0: 7, 1: 5})
    assert AtOffsets(((0, 7), (1, 5))).get(1) == 5
    assert AtOffsets(((0, 7),)).get(1) is None


def test_offsets_of_several_topics_are_kept_by_topic():
    """The order in which topics were named does not matter; what is no offset is said of every topic."""
    start = pin_start(Start.offsets({"b": {0: 1}, "a": {1: 2, 0: 3}}), NOON_MS)
    stop = pin_stop(Stop.offsets({"a": {0: 3, 1: 2}, "b": {0: 1}}), NOON_MS)
    assert start == stop
    assert start_of(start, "a") == stop_of(stop, "a") == AtOffsets(((0, 3), (1, 2)))
    assert start_of(start, "b") == stop_of(stop, "b") == AtOffsets(((0, 1),))
    assert start_of(Earliest(), "a") == Earliest()
    assert stop_of(AtTimestamp(7), "a") == AtTimestamp(7)


@pytest.mark.rule("B2")
def test_offsets_of_other_topics_only_are_refused():
    """A topic left out by accident would be read from nowhere."""
    said = AtTopicOffsets((("b", AtOffsets(((0, 1),))),))
    with pytest.raises(ConfigError, match="start gives no offsets for topic 'a': name every topic"):
        start_of(said, "a")
    with pytest.raises(ConfigError, match="stop gives no offsets for topic 'a': name every topic"):
        stop_of(said, "a")


@pytest.mark.rule("B2")
@pytest.mark.parametrize("method", [Start.at, Stop.at])
def test_an_instant_without_zone_is_refused_with_the_cure(method):
    """A naive datetime would be read in whatever zone the worker has."""
    option = f"{'Start' if method is Start.at else 'Stop'}.at"
    for naive in ("2026-11-16T12:00:00", datetime(2026, 11, 16, 12)):  # noqa: DTZ001 - what is refused
        with pytest.raises(ConfigError, match=rf"{option}: 2026-11-16T12:00:00 has no time zone; add one.*Z"):
            method(naive)


@pytest.mark.rule("B2")
def test_text_that_is_no_instant_is_refused_with_an_example():
    """The message shows what was said and how to say it."""
    with pytest.raises(ConfigError, match=r"Start\.at: 'yesterday' is not ISO 8601; write for example"):
        Start.at("yesterday")


@pytest.mark.rule("B2")
@pytest.mark.parametrize("said", ["7", "7 days", "-7d", "7y", "", "1.5h"])
def test_text_that_is_no_duration_is_refused_with_examples(said):
    """A number without a unit, or with one we do not know, could mean anything."""
    with pytest.raises(ConfigError, match=r"Start\.before_now: .* is not a duration; write for example '90s'"):
        Start.before_now(said)


@pytest.mark.rule("B2")
@pytest.mark.parametrize("method", [Start.at, Stop.at])
@pytest.mark.parametrize("said", [1_794_830_400, None, NOON.date()])
def test_what_is_no_instant_is_refused(method, said):
    """A bare number has no unit, a date no zone."""
    with pytest.raises(ConfigError, match=r"St(art|op)\.at takes an aware datetime or ISO 8601 text, got"):
        method(said)


@pytest.mark.rule("B2")
@pytest.mark.parametrize("said", [7, 7.5, None])
def test_what_is_no_duration_is_refused(said):
    """A bare number has no unit."""
    with pytest.raises(ConfigError, match=r"Start\.before_now takes a timedelta or text such as '7d', got"):
        Start.before_now(said)


@pytest.mark.rule("B2")
def test_a_duration_beyond_all_time_is_refused():
    """Not an OverflowError from below."""
    with pytest.raises(ConfigError, match=r"Start\.before_now: '9999999999999w' is longer than time"):
        Start.before_now("9999999999999w")


@pytest.mark.rule("B2")
def test_a_negative_duration_is_refused():
    """before_now does not look into the future."""
    with pytest.raises(ConfigError, match=r"Start\.before_now: a duration must not be negative"):
        Start.before_now(timedelta(seconds=-1))


@pytest.mark.rule("B2")
@pytest.mark.parametrize(
    ("offsets", "message"),
    [
        ({}, r"Start\.offsets needs at least one partition"),
        ({-1: 0}, r"partition must be a number >= 0, got -1"),
        ({"0": 0}, r"topic '0' takes partition number -> offset, or topic -> partition -> offset, got 0"),
        ({"pins": {}}, r"topic 'pins' needs at least one partition"),
        ({"pins": {-1: 0}}, r"topic 'pins': partition must be a number >= 0, got -1"),
        ({"pins": {0: 0}, 1: 0}, r"partition must be a number >= 0, got 'pins'"),
        ({True: 0}, r"partition must be a number >= 0, got True"),
        ({3: -1}, r"offset of partition 3 must be 0 to 2\^63 - 1, got -1"),
        ({3: MAX_OFFSET + 1}, r"offset of partition 3 must be 0 to 2\^63 - 1"),
        ({3: 1.0}, r"offset of partition 3 must be .* got 1\.0"),
    ],
)
def test_offsets_that_cannot_be_are_refused_by_partition(offsets, message):
    """Kafka's own special numbers (-1, -2) are no offsets; a message names the partition."""
    with pytest.raises(ConfigError, match=message):
        Start.offsets(offsets)


@given(st.dictionaries(st.integers(0, 2**31 - 1), st.just(0) | st.just(MAX_OFFSET) | OFFSETS, min_size=1))
def test_every_offset_that_kafka_can_have_can_be_said(offsets):
    """Zero and the largest one included."""
    said = Start.offsets(offsets)
    assert said == Stop.offsets(offsets)
    assert isinstance(said, AtOffsets)
    assert {partition: said.get(partition) for partition in offsets} == offsets


@pytest.mark.rule("B2")
def test_offsets_must_name_exactly_the_partitions_of_the_topic():
    """A partition left out by accident would be read from nowhere; one that does not exist is a typing error."""
    position = AtOffsets(((0, 1), (2, 1)))
    with pytest.raises(ConfigError, match=r"start gives no offset for partition 1 of topic 'pins' \(1 of 3"):
        position.check_covers("pins", [0, 1, 2], option="start")
    with pytest.raises(ConfigError, match=r"stop names partition 2 of topic 'pins', which has partitions 0 to 1"):
        position.check_covers("pins", [0, 1], option="stop")
    position.check_covers("pins", [0, 2], option="start")


@pytest.mark.rule("B2")
@given(st.sets(st.integers(0, 9), min_size=1), st.sets(st.integers(0, 9), min_size=1))
def test_the_first_wrong_partition_is_named(existing, named):
    """The smallest one that does not exist, else the smallest one that is missing; no error where there is neither."""
    position, unknown, missing = AtOffsets(tuple((at, 0) for at in named)), named - existing, existing - named
    if not unknown and not missing:
        position.check_covers("pins", existing, option="start")
        return
    message = f"names partition {min(unknown)} of" if unknown else f"no offset for partition {min(missing)} of"
    with pytest.raises(ConfigError, match=message):
        position.check_covers("pins", existing, option="start")


@pytest.mark.rule("B2")
def test_a_start_after_the_stop_is_refused_with_both():
    """Both are shown, as instants or as offsets of a partition."""
    with pytest.raises(ConfigError, match=r"start 2026-11-16T12:00:00\.001Z is after stop 2026-11-16T12:00:00\.000Z"):
        check_order(AtTimestamp(NOON_MS + 1), AtTimestamp(NOON_MS))
    with pytest.raises(ConfigError, match=r"partition 1: start offset 6 is after stop offset 5"):
        check_order(AtOffsets(((0, 1), (1, 6))), AtOffsets(((0, 9), (1, 5))))
    topics = AtTopicOffsets((("a", AtOffsets(((0, 1),))), ("b", AtOffsets(((0, 6),)))))
    with pytest.raises(ConfigError, match=r"topic 'b', partition 0: start offset 6 is after stop offset 5"):
        check_order(topics, AtTopicOffsets((("a", AtOffsets(((0, 1),))), ("b", AtOffsets(((0, 5),))))))


@pytest.mark.parametrize(
    ("start", "stop"),
    [
        (AtTimestamp(NOON_MS), AtTimestamp(NOON_MS)),
        (AtTimestamp(NOON_MS), AtTimestamp(NOON_MS + 1)),
        (AtOffsets(((0, 5),)), AtOffsets(((0, 5),))),
        (AtOffsets(((0, 5),)), AtTimestamp(0)),
        (Earliest(), AtTimestamp(0)),
        (Latest(), AtOffsets(((0, 0),))),
        (AtTimestamp(NOON_MS), None),
        (AtOffsets(((0, 5),)), None),
        (AtOffsets(((0, 5), (1, 5))), AtOffsets(((1, 5),))),
        (AtOffsets(((0, 5),)), AtTopicOffsets((("a", AtOffsets(((0, 0),))),))),
        (AtTopicOffsets((("a", AtOffsets(((0, 5),))),)), AtOffsets(((0, 0),))),
        (AtTopicOffsets((("a", AtOffsets(((0, 5),))),)), AtTopicOffsets((("b", AtOffsets(((0, 0),))),))),
        (AtTopicOffsets((("a", AtOffsets(((0, 5),))),)), AtTopicOffsets((("a", AtOffsets(((0, 5),))),))),
        (AtTimestamp(5), AtTopicOffsets((("a", AtOffsets(((0, 0),))),))),
    ],
)
def test_what_cannot_be_compared_without_looking_is_let_pass(start, stop):
    """An empty range is no error, and an instant cannot be compared with an offset here."""
    check_order(start, stop)
