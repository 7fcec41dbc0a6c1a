"""Ints that fit: Beam's coders hold one of 64 bits, Python's parsers any. What is larger would fail downstream, without a name."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import is_dataclass
from functools import partial
from itertools import chain
from operator import attrgetter, is_not, methodcaller
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

_LOWEST, _HIGHEST = -(2**63), 2**63 - 1

_Spread = Callable[[Iterable[Any]], Iterable[int]]


def range_check(kind: Any) -> Callable[[Sequence[Any]], None] | None:
    """A check of values of a type, which raises ValueError; None where the type says of no int.

    Looked at are ints, in fields of NamedTuples and dataclasses, in lists, tuples, sets and mappings, optional or not. A batch at
    a time and without a line of Python a record.
    """
    spread = _ints(kind, ())
    if spread is None:
        return None
    ints = spread

    def check(values: Sequence[Any]) -> None:
        try:
            found = list(ints(values))
            fits = not found or (min(found) >= _LOWEST and max(found) <= _HIGHEST)
        except (
            TypeError,
            AttributeError,
        ):  # not what their type says, such as a dict for a nested dataclass: not our question
            return
        if not fits:
            raise ValueError("an int is too large: beyond the 64 bits that a row holds")

    return check


def _ints(hint: Any, outer: tuple[Any, ...]) -> _Spread | None:
    """From values of a type to the ints in them."""
    if hint is int:
        return lambda values: values
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _ints(args[0], outer)
    if origin in {Union, UnionType}:
        kinds = [kind for kind in args if kind is not NoneType]
        # Of several types no column is made.
        return _within(_ints(kinds[0], outer), partial(filter, partial(is_not, None))) if len(kinds) == 1 else None
    if isinstance(hint, type) and origin is None:
        return _fields(hint, outer)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        parts = [_within(_ints(kind, outer), _flat(name)) for name, kind in zip(("keys", "values"), args, strict=True)]
        return _all(parts)
    if isinstance(origin, type) and issubclass(origin, Collection) and len({*args} - {...}) == 1:
        return _within(_ints(args[0], outer), chain.from_iterable)
    return None


def _fields(kind: type, outer: tuple[Any, ...]) -> _Spread | None:
    named = issubclass(kind, tuple) and hasattr(kind, "_fields")
    if kind in outer or not (named or is_dataclass(kind)):  # one within itself is no row
        return None
    try:
        hints = get_type_hints(kind)
    except NameError:
        return None
    return _all([_within(_ints(hint, (*outer, kind)), partial(map, attrgetter(name))) for name, hint in hints.items()])


def _flat(name: str) -> Callable[[Iterable[Any]], Iterable[Any]]:
    get = methodcaller(name)
    return lambda values: chain.from_iterable(map(get, values))


def _within(inner: _Spread | None, step: Callable[[Iterable[Any]], Iterable[Any]]) -> _Spread | None:
    return None if inner is None else lambda values: inner(step(values))


def _all(parts: Sequence[_Spread | None]) -> _Spread | None:
    spreads = [part for part in parts if part is not None]
    if not spreads:
        return None

    def spread(values: Iterable[Any]) -> Iterable[int]:
        kept = list(values)
        return chain.from_iterable(one(kept) for one in spreads)

    return spread
