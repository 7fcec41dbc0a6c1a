"""Dead letters in Beam YAML's form, for providers that offer `ReadUnified` there."""

from collections.abc import Mapping

import apache_beam as beam
from apache_beam.pvalue import PCollection
from apache_beam.typehints.row_type import RowTypeConstraint

from beam_unified.dead_letters import DeadLetter
from beam_unified.errors import ConfigError
from beam_unified.transforms import Results

_FIELDS = [
    ("topic", str),
    ("partition", int),
    ("offset", int),
    ("stop", int),
    ("key", bytes | None),
    ("value", bytes | None),
]
_ELEMENT = RowTypeConstraint.from_fields(_FIELDS)
_ERROR = RowTypeConstraint.from_fields([("element", _ELEMENT), ("msg", str), ("stack", str)])


def yaml_outputs(results: Results, error_handling: Mapping[str, str]) -> dict[str, PCollection]:
    """`Results` as a YAML transform with `error_handling: {output: name}` gives them.

    "good" are the records; under the name that the pipeline gave, rows of `element`, `msg` and `stack`, as Beam's own
    transforms make them. `element` is a row of topic, partition, offset, stop, key and value; `stack` is the reason.

    Raises:
        ConfigError: no output named, or one called "good".
    """
    name = error_handling.get("output")
    if not name or name == "good":
        raise ConfigError(
            f"error_handling needs an output of its own, as in {{output: bad}}, got {dict(error_handling)!r}."
        )
    return {
        "good": results.records,
        name: results.dead_letters | "Error rows" >> beam.Map(_row).with_output_types(_ERROR),
    }


def _row(letter: DeadLetter) -> beam.Row:
    key, value = (None, None) if letter.record is None else (letter.record.key, letter.record.value)
    element = beam.Row(
        topic=letter.topic, partition=letter.partition, offset=letter.offset, stop=letter.stop, key=key, value=value
    )
    return beam.Row(element=element, msg=letter.error, stack=letter.reason)
