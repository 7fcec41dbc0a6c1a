"""Json's targets: where their classes may live, and what they may be made of."""

import subprocess
import sys
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import NamedTuple, TypedDict

import msgspec
import pydantic
import pytest

from beam_unified import ConfigError, Json
from beam_unified.records import ListBatch, Record, Store


class Color(Enum):
    RED = "red"


class Size(TypedDict):
    width: int


@dataclass
class Board:
    title: str
    color: Color = Color.RED
    pins: "list[Pin]" = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Pin:
    id: int
    board: Board | None = None
    size: Size | None = None


class NamedPin(NamedTuple):
    id: int
    board: Board


class StructPin(msgspec.Struct):
    id: int
    board: Board


class Point(NamedTuple):
    x: int


@dataclass
class WithPoint:
    point: Point


@dataclass
class WithPoints:
    inner: dict[str, WithPoint]


class NamedPoints(NamedTuple):
    points: list[Point]


class StructPoint(msgspec.Struct):
    point: Point | None = None


class Model(pydantic.BaseModel):
    id: int


@dataclass
class WithModel:
    model: Model


def decode(decoder, value):
    (found,) = decoder.open()(ListBatch([Record(None, value, (), "pins", 0, 0, 1, None, "kafka")], Store.KAFKA))
    return found


@pytest.mark.parametrize("kind", [Pin, NamedPin, StructPin, list[Pin]], ids=repr)
def test_classes_are_left_as_they_were(kind):
    """Neither building nor opening a decoder leaves anything on them; nested ones, those within themselves, Enums."""
    one = b'{"id": 1, "board": {"title": "b", "color": "red", "pins": [{"id": 2, "size": {"width": 3}}]}}'
    found = decode(Json(kind), b"[" + one + b"]" if kind == list[Pin] else one)
    pin = found[0] if kind == list[Pin] else found
    assert pin.board == Board("b", Color.RED, [Pin(2, None, {"width": 3})])
    assert [kind for kind in (Pin, NamedPin, Board, Color, Size) if "__msgspec_cache__" in vars(kind)] == []


@pytest.mark.rule("B2")
@pytest.mark.parametrize("kind", [WithPoint, WithPoints, NamedPoints, StructPoint, list[Point]], ids=repr)
def test_a_named_tuple_within_is_refused(kind):
    """Wherever it is: msgspec would want an array for it."""
    with pytest.raises(ConfigError, match="Point within it is a NamedTuple: make the inner type a dataclass"):
        Json(kind)


@pytest.mark.rule("B2")
@pytest.mark.parametrize("kind", [WithModel, list[Model]], ids=repr)
def test_what_msgspec_does_not_know_is_refused(kind):
    """Every record would fail."""
    with pytest.raises(ConfigError, match="Model'> within it is no type that msgspec knows"):
        Json(kind)


SCRIPT = """
from dataclasses import dataclass
from enum import Enum

import apache_beam as beam
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.util import assert_that, equal_to

from beam_unified import Field, Json, ReadUnified, Stop
from beam_unified.testing import InMemoryLog


class Color(Enum):
    RED = "red"


@dataclass
class Pin:
    id: int
    color: Color


log = InMemoryLog("pins")
log.append(0, b'{"id": 1, "color": "red"}', timestamp=1)
for _ in range(2):  # as one who runs a cell again
    with beam.Pipeline(runner=FnApiRunner()) as p:
        read = ReadUnified(
            "pins", log.kafka, None, decoder=Json(Pin), timestamp_fn=Field("id", unit="s"), stop=Stop.now()
        )
        found = p | read | beam.Reshuffle() | beam.Map(lambda pin: (pin.id, pin.color.value, isinstance(pin, Pin)))
        assert_that(found, equal_to([(1, "red", True)]))
"""


def test_classes_of_the_main_script():
    """They are pickled by value, with what is on them: a script, and a cell of a notebook that runs again."""
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2_000:]
