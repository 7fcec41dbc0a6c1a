"""Types of decoded values as Beam's schemas: what makes an output a table, for `SqlTransform`, `Select` and `GroupBy`."""

from dataclasses import is_dataclass
from typing import Any

from apache_beam.coders import FastPrimitivesCoder, registry


def with_schema(element_type: Any) -> Any:
    """The type, known to Beam as a row where it is a NamedTuple or dataclass that no other coder was registered for.

    One with a field that no schema can hold is left as it is, and pickled.
    """
    if not _has_fields(element_type) or not isinstance(registry.get_coder(element_type), FastPrimitivesCoder):
        return element_type
    try:
        registry.register_row(element_type)
    except (TypeError, ValueError, NotImplementedError):
        registry.register_coder(element_type, FastPrimitivesCoder)
    return element_type


def _has_fields(kind: Any) -> bool:
    return isinstance(kind, type) and (is_dataclass(kind) or (issubclass(kind, tuple) and hasattr(kind, "_fields")))
