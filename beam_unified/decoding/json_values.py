"""JSON to dicts, dataclasses, NamedTuples, msgspec Structs and pydantic models.

Why msgspec: it parses into the target type in one pass and checks types on the way. Measured, 175 bytes a value: dict 1.0 us,
Struct 0.8, NamedTuple 1.2, dataclass 1.4; orjson dict 1.1 and a dataclass made of it 1.7, unchecked; pydantic 3.1; json.loads 4.1.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, get_type_hints

import msgspec
from msgspec import inspect

from beam_unified.decoding.decoder import Decode, each_value
from beam_unified.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Json:
    """JSON values as `target`.

    Unknown fields are ignored and missing ones take their default, so that producers may add and drop fields; a missing field
    without default, or one of the wrong type, cannot be decoded. NamedTuples and dataclasses come out as rows of a schema.

    Args:
        target: `dict` (any JSON object), a dataclass, a NamedTuple, a msgspec Struct, a pydantic model, or any other type
            that msgspec knows (`list[int]`, a union of tagged Structs). A NamedTuple within another type is refused: it
            would be read from an array, and producers write objects.

    Raises:
        ConfigError: a type that cannot be made from JSON.
    """

    target: Any = dict

    def __post_init__(self) -> None:
        try:
            _function(self.target)
        except (TypeError, NameError) as error:
            raise ConfigError(f"Json cannot make {self.target!r}: {error}") from error

    @property
    def element_type(self) -> Any:
        """The target; of plain dicts `dict[str, Any]`."""
        return dict[str, Any] if self.target is dict else self.target

    def open(self) -> Decode:
        """See `Decoder`."""
        return each_value(_function(self.target))


def _function(target: Any) -> Callable[[bytes], Any]:
    if hasattr(target, "model_validate_json"):  # a pydantic model
        return target.model_validate_json  # type: ignore[no-any-return]
    if isinstance(target, type) and issubclass(target, tuple) and hasattr(target, "_fields"):
        return _named_tuple(target)
    return _parser(target)


def _named_tuple(target: Any) -> Callable[[bytes], Any]:
    """By a Struct with the same fields: msgspec itself wants an array for a NamedTuple, and producers write objects."""
    hints, defaults = get_type_hints(target), target._field_defaults
    fields = [
        (name, hints.get(name, Any), defaults[name]) if name in defaults else (name, hints.get(name, Any))
        for name in target._fields
    ]
    parse: Any = _parser(msgspec.defstruct(target.__name__, fields))
    make, values = target._make, msgspec.structs.astuple
    return lambda value: make(values(parse(value)))


def _parser(target: Any) -> Callable[[bytes], Any]:
    """What msgspec makes of a type, whose parts are checked here and left as they were.

    msgspec keeps what it knows of a dataclass, TypedDict or Enum in an attribute of the class, which cannot be pickled; and
    the classes of a main script or notebook are pickled with all they have. A decoder does not need it any more.
    """
    parts = list(_parts(inspect.type_info(target)))
    for part in parts:
        if isinstance(part, inspect.NamedTupleType):
            raise TypeError(f"{part.cls.__name__} within it is a NamedTuple: make the inner type a dataclass")
        if isinstance(part, inspect.CustomType):
            raise TypeError(f"{part.cls!r} within it is no type that msgspec knows")
    decode = msgspec.json.Decoder(target).decode
    for part in parts:
        with suppress(AttributeError):
            del part.cls.__msgspec_cache__  # type: ignore[attr-defined]  # of those that are classes
    return decode


def _parts(info: inspect.Type) -> Iterator[inspect.Type]:
    """A type and all that it is made of, each once: types may be in themselves."""
    waiting: list[Any] = [info]
    seen: set[int] = set()
    while waiting:
        part = waiting.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, inspect.Type):
            yield part
        for value in msgspec.structs.astuple(part):
            within = value if isinstance(value, tuple) else (value,)
            waiting += [one for one in within if isinstance(one, inspect.Type | inspect.Field)]
