"""JSON to dicts, dataclasses, NamedTuples, msgspec Structs and pydantic models.

Why msgspec: it parses into the target type in one pass and checks types on the way. Measured, 175 bytes a value: dict 1.0 us,
Struct 0.8, NamedTuple 1.2, dataclass 1.4; orjson dict 1.1 and a dataclass made of it 1.7, unchecked; pydantic 3.1; json.loads 4.1.
"""

from collections.abc import Callable
from dataclasses import dataclass, is_dataclass
from typing import Any, get_type_hints

import msgspec

from beam_unified.decoding.decoder import Decode, each_value
from beam_unified.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Json:
    """JSON values as `target`.

    Unknown fields are ignored and missing ones take their default, so that producers may add and drop fields; a missing field
    without default, or one of the wrong type, cannot be decoded. NamedTuples and dataclasses come out as rows of a schema.

    Args:
        target: `dict` (any JSON object), a dataclass, a NamedTuple, a msgspec Struct, a pydantic model, or any other type
            that msgspec knows (`list[int]`, a union of tagged Structs).

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
    if _is_named_tuple(target):
        return _named_tuple(target)
    if is_dataclass(target):
        msgspec.json.schema(target)  # msgspec looks at fields when it first meets one; fail when built
    return msgspec.json.Decoder(target).decode


def _is_named_tuple(target: Any) -> bool:
    return isinstance(target, type) and issubclass(target, tuple) and hasattr(target, "_fields")


def _named_tuple(target: Any) -> Callable[[bytes], Any]:
    """By a Struct with the same fields: msgspec itself wants an array for a NamedTuple, and producers write objects."""
    hints, defaults = get_type_hints(target), target._field_defaults
    fields = [
        (name, hints.get(name, Any), defaults[name]) if name in defaults else (name, hints.get(name, Any))
        for name in target._fields
    ]
    if nested := next((name for name, hint in hints.items() if _is_named_tuple(hint)), None):
        raise TypeError(f"its field {nested} is a NamedTuple: make the inner type a dataclass")
    parse: Any = msgspec.json.Decoder(msgspec.defstruct(target.__name__, fields)).decode
    make, values = target._make, msgspec.structs.astuple
    return lambda value: make(values(parse(value)))
