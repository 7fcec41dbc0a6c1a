"""Ints that Beam's coders can hold, wherever a type has them."""

from collections.abc import Mapping
from dataclasses import dataclass, make_dataclass
from typing import Annotated, Any, NamedTuple

import pytest
from apache_beam.coders import RowCoder, registry
from hypothesis import given
from hypothesis import strategies as st

from beam_unified.decoding.ranges import range_check

pytestmark = pytest.mark.rule("B1")


class Inner(NamedTuple):
    n: int | None
    text: str = ""


@dataclass
class Endless:
    n: int
    more: "Endless | None" = None


KINDS = [
    (int, lambda n: n),
    (int | None, lambda n: n),
    (Annotated[int, "of something"], lambda n: n),
    (list[int], lambda n: [1, n]),
    (tuple[int, ...], lambda n: (1, n)),
    (dict[str, int], lambda n: {"a": n}),
    (Mapping[int, str], lambda n: {n: "a"}),
    (Inner, Inner),
    (list[Inner | None], lambda n: [None, Inner(None), Inner(n)]),
    (Endless, Endless),
]


@pytest.mark.parametrize(("kind", "make"), KINDS, ids=str)
@given(st.integers(-(2**63), 2**63 - 1), st.integers(1))
def test_an_int_beyond_64_bits_is_found(kind, make, good, beyond):
    """As a value, and as a field of a row, among good ones; what fits passes."""
    row = make_dataclass("Row", [("title", str), ("field", kind)])
    for of, made in ((kind, make), (row, lambda n: row("t", make(n)))):
        check = range_check(of)
        assert check is not None
        check([made(good), made(0)])
        check([])
        for bad in (2**63 - 1 + beyond, -(2**63) - beyond):
            with pytest.raises(ValueError, match="too large"):
                check([made(good), made(bad), made(0)])


@pytest.mark.parametrize("kind", [str, dict[str, Any], Any, list[str], int | str, dict, Endless.__class__])
def test_types_without_ints_cost_nothing(kind):
    """There is nothing to check."""
    assert range_check(kind) is None


@pytest.mark.parametrize("value", [Endless(None), Endless("7"), {"n": 1}, Inner(None)])  # type: ignore[arg-type]
def test_values_of_another_type_pass(value):
    """Whether values are what their type says is not asked here."""
    check = range_check(Endless)
    assert check is not None
    check([Endless(1), value])


class Pin(NamedTuple):
    id: int


@given(st.integers(-(2**65), 2**65))
def test_what_passes_can_be_written_as_a_row(number):
    """The bounds are the row coder's own."""
    registry.register_row(Pin)
    coder, check = registry.get_coder(Pin), range_check(Pin)
    assert isinstance(coder, RowCoder)
    assert check is not None
    fits = True
    try:
        check([Pin(number)])
    except ValueError:
        fits = False
    written = True
    try:
        coder.encode(Pin(number))
    except (OverflowError, ValueError):
        written = False
    assert fits == written
