"""What YAML can say, and what becomes of it."""

import inspect
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.typehints.row_type import RowTypeConstraint
from apache_beam.yaml import yaml_provider

from beam_unified.errors import BadRecordError, ConfigError
from beam_unified.records import ListBatch, Record, Store
from beam_unified.secret_tables import with_secrets
from beam_unified.secrets import Secret
from beam_unified.yaml import transforms
from beam_unified.yaml.formats import RowFormat, decoder_of, formatter_of

JSON = {"type": "object", "properties": {"n": {"type": "integer"}, "t": {"type": "string"}}, "required": ["n"]}
AVRO = {"type": "record", "name": "Pin", "fields": [{"name": "n", "type": "long"}, {"name": "t", "type": "string"}]}
PROVIDERS = Path(transforms.__file__).with_name("providers.yaml")
OFFERED: dict[str, Callable[..., beam.PTransform]] = {
    "ReadUnified": transforms.read_unified,
    "ArchiveTopic": transforms.archive_topic,
    "WriteKafka": transforms.write_kafka,
}


def decoded(format_: RowFormat, *values: bytes | None):
    made = [Record(None, value, (), "pins", 0, offset, 0, None, "kafka") for offset, value in enumerate(values)]
    return list(pickle.loads(pickle.dumps(format_)).open()(ListBatch(made, Store.KAFKA)))


@pytest.mark.parametrize(("name", "schema"), [("JSON", JSON), ("avro", AVRO)])
def test_what_is_written_of_rows_is_read_as_the_same_rows(name, schema):
    """The two halves of a format; the schema of the rows is that of the format."""
    rows = [beam.Row(n=1, t="a"), beam.Row(n=2, t="ö")]
    format_ = RowFormat.named(name, schema)
    write = formatter_of(name, RowTypeConstraint.from_fields([("n", int), ("t", str)]))
    assert decoded(format_, *map(write, rows)) == rows
    assert list(format_.element_type._fields) == ["n", "t"]


def test_a_property_that_may_be_missing_is_null():
    """By `required`."""
    assert decoded(RowFormat.named("JSON", JSON), b'{"n": 1}') == [beam.Row(n=1, t=None)]


def test_what_a_schema_does_not_allow_cannot_be_decoded():
    """So it is a dead letter, or an error: never a row with other fields."""
    for value in (b"{", b'{"n": "1"}', b'{"t": "a"}', None):
        with pytest.raises(Exception, match=r".") as error:
            decoded(RowFormat.named("JSON", JSON), value)
        assert value is not None or error.type is BadRecordError


def test_text_and_bytes_are_rows_of_one_field():
    """STRING decodes; RAW has nothing to decode, a tombstone stays one."""
    assert decoded(RowFormat.named("STRING", None), "ö".encode()) == [beam.Row(payload="ö")]
    assert decoder_of("raw", None) is None
    write = formatter_of("RAW", RowTypeConstraint.from_fields([("payload", bytes | None)]))
    assert [write(beam.Row(payload=value)) for value in (b"x", None)] == [b"x", None]


WRONG = [
    *(("XML", None), ("JSON", None), ("AVRO", None), ("STRING", JSON), ("RAW", JSON)),
    *(("JSON", {"type": "array"}), ("AVRO", "{")),
]


@pytest.mark.parametrize(("name", "schema"), WRONG)
def test_a_format_that_cannot_be_is_refused(name, schema):
    """When the pipeline is built."""
    with pytest.raises(ConfigError, match=r"format|schema"):
        decoder_of(name, schema)


def test_rows_of_another_shape_cannot_be_written():
    """Two fields as text, no schema at all, an unknown format."""
    two = RowTypeConstraint.from_fields([("a", str), ("b", str)])
    for name, element_type in (("STRING", two), ("JSON", int), ("XML", two)):
        with pytest.raises(ConfigError):
            formatter_of(name, element_type)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"start": "yesterday"}, "start"),
        ({"stop": "latest"}, "stop"),
        ({"output": "record", "format": "STRING"}, "output"),
        ({"max_out_of_orderness": "5"}, "max_out_of_orderness"),
        ({"prefer": "s3"}, "prefer"),
        ({"timestamp_field": "t", "timestamp_unit": "minutes"}, "unit"),
        ({"consumer_config": {"no_such_setting": "hush"}}, "no_such_setting"),
    ],
)
def test_a_wrong_argument_is_named(wrong, says):
    """When the file is read; values of settings are not quoted."""
    with pytest.raises(ConfigError, match=says) as error:
        transforms.read_unified(topic="pins", bootstrap_servers="h:1", **wrong)
    assert "hush" not in str(error.value)


def test_the_listing_offers_what_is_documented():
    """providers.yaml, the functions, and the tables of docs/yaml.md have the same names."""
    offered = {
        name: provider
        for provider in yaml_provider.load_providers(str(PROVIDERS))
        for name in provider.provided_transforms()
    }
    assert offered.keys() == OFFERED.keys()
    page = (Path(__file__).parents[3] / "docs" / "yaml.md").read_text()
    for name, function in OFFERED.items():
        section = page.split(f"\n## {name}\n")[1].split("\n## ")[0]
        assert re.findall(r"^\| `(\w+)`", section, re.MULTILINE) == list(inspect.signature(function).parameters)
        fields = offered[name].config_schema(name).fields
        assert all(field.description for field in fields), "Beam shows the docstring's words of each argument"
        assert offered[name].requires_inputs(name, {}) is (name == "WriteKafka")


def test_a_secret_is_where_it_is_and_not_what_it_is():
    """A table of `env` or `file` alone, however deep; any other table is a setting."""
    given = {"a": {"env": "P"}, "b": {"env": "P", "more": 1}, "c": {"d": {"file": "/p"}}, "e": 1}
    assert with_secrets(given) == {**given, "a": Secret.env("P"), "c": {"d": Secret.file("/p")}}
