"""What holds for every value class of the core: they are hashable, unchangeable, small, and told apart by their fields."""

import inspect
from dataclasses import FrozenInstanceError, fields

import pytest

from beam_unified.flushes import Flush, FlushIndex
from beam_unified.offsets import OffsetRange, TopicPartition
from beam_unified.positions import AtOffsets, AtTimestamp, AtTopicOffsets, BeforeNow, Earliest, Latest, Launch
from beam_unified.reading.choice import FromArchive, FromKafka, Missing, Truncated, choose
from beam_unified.reading.resolve import StopBefore, resolve_stop
from beam_unified.source.pacing import CallBudget, Pace
from beam_unified.source.restriction import LogRestriction
from beam_unified.source.tracker import End, UpTo
from beam_unified.watermarks import IdlePolicy, WatermarkState

FLUSH = (0, 5, None, None)
# A class, and the arguments of two different values of it; those of options and states are given by name.
VALUES = [
    (AtOffsets, [((0, 1),)], [((0, 2),)]),
    (AtTimestamp, [1], [2]),
    (AtTopicOffsets, [(("a", AtOffsets(((0, 1),))),)], [(("b", AtOffsets(((0, 1),))),)]),
    (BeforeNow, [1], [2]),
    (Earliest, [], None),
    (End, [], None),
    (Flush, FLUSH, (0, 6, None, None)),
    (FromArchive, [Flush(*FLUSH)], [Flush(0, 6, None, None)]),
    (FromKafka, [], None),
    (Latest, [], None),
    (Launch, [], None),
    (Missing, [OffsetRange(0, 1)], [OffsetRange(0, 2)]),
    (OffsetRange, [0, 1], [0, 2]),
    (Pace, [1], [2]),
    (StopBefore, [1], [2]),
    (TopicPartition, ["pins", 0], ["pins", 1]),
    (Truncated, [OffsetRange(0, 1)], [OffsetRange(0, 2)]),
    (UpTo, [1], [2]),
    (CallBudget, {"records": 1}, {"records": 2}),
    (IdlePolicy, {"advance": True, "timeout_ms": 1}, {"advance": True, "timeout_ms": 2}),
    (LogRestriction, {"start": 1}, {"start": 2}),
    (WatermarkState, {"reported": 1}, {"reported": 2}),
]
every_value = pytest.mark.parametrize(("cls", "one", "other"), VALUES, ids=[cls.__name__ for cls, _, _ in VALUES])


def make(cls, arguments):
    return cls(**arguments) if isinstance(arguments, dict) else cls(*arguments)


@every_value
def test_values_are_equal_and_hashed_by_their_fields(cls, one, other):
    """Two workers make the same value of the same facts."""
    assert make(cls, one) == make(cls, one)
    assert hash(make(cls, one)) == hash(make(cls, one))
    assert other is None or make(cls, one) != make(cls, other)


@every_value
def test_values_cannot_change(cls, one, other):
    """Whoever holds one, in another thread or a restored state, holds what was made."""
    value = make(cls, one)
    for field in fields(cls):
        with pytest.raises(FrozenInstanceError):
            setattr(value, field.name, None)
    assert cls.__dataclass_params__.frozen  # those without fields as well


@every_value
def test_values_carry_nothing_beside_their_fields(cls, one, other):
    """No dictionary: they are small, and a wrong name is an error."""
    assert not hasattr(make(cls, one), "__dict__")


@pytest.mark.parametrize("cls", [cls for cls, one, _ in VALUES if isinstance(one, dict)])
def test_options_and_states_are_given_by_name(cls):
    """Several numbers in a row would be mixed up unseen."""
    with pytest.raises(TypeError, match="positional argument"):
        cls(1, 2)


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (AtOffsets.check_covers, ["option"]),
        (CallBudget.spent, ["records", "size_bytes", "seconds"]),
        (Pace.after, ["records", "seconds", "budget"]),
        (choose, ["index", "not_in_kafka", "prefer"]),
        (resolve_stop, ["now_ms"]),
    ],
)
def test_arguments_that_could_be_mixed_up_are_given_by_name(function, names):
    """As for options and states."""
    parameters = inspect.signature(function).parameters.values()
    assert [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY] == names


def test_a_flush_index_is_one_value_whatever_the_order_of_its_flushes():
    """It is compared and hashed like the other values."""
    one, other = Flush(0, 5, None, None), Flush(5, 9, 1, 2)
    assert FlushIndex([one, other]) == FlushIndex([other, one])
    assert hash(FlushIndex([one, other])) == hash(FlushIndex([other, one]))
    assert len({FlushIndex(flushes) for flushes in ([], [one], [other], [one, other])}) == 4
    for flushes in ([], [one], [other]):
        assert FlushIndex(flushes) != FlushIndex([one, other])
        assert FlushIndex([one, other]) != FlushIndex(flushes)
