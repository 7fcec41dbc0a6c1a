"""Flags, environment, file: which one counts, and that no value is ever shown."""

import re
from pathlib import Path
from typing import get_args

import click
import pytest

from beam_unified.archive.archive import Archive
from beam_unified.archive.foreign.aiven import Aiven
from beam_unified.cli import exits, settings
from beam_unified.cli.app import main, program
from beam_unified.cli.settings import NameValue, Settings, stores
from beam_unified.errors import ConfigError, DataLossError, KafkaUnavailableError, UnifiedLogError
from beam_unified.inspection.verification import Kind
from beam_unified.kafka.client import Kafka
from beam_unified.secrets import Secret, resolved

FILE = """
[kafka]
bootstrap_servers = "file:9092"
[kafka.config]
security_protocol = "SASL_SSL"
sasl_mechanism = "PLAIN"
sasl_plain_username = "me"
sasl_plain_password = { env = "PASSWORD" }
client_id = "file"
[archive]
root = "s3://file/root"
storage_options = { key = "user", secret = { file = "SECRET" }, client_kwargs = { endpoint_url = "http://file" } }
[sync]
topic = "reports"
"""


@pytest.fixture(autouse=True)
def _bare(monkeypatch, tmp_path):
    """No variables of the machine, no file of the user."""
    monkeypatch.setattr(settings, "DEFAULT_FILE", tmp_path / "none.toml")
    for name in ("BOOTSTRAP_SERVERS", "KAFKA_CONFIG", "ARCHIVE", "STORAGE_OPTIONS", "CONFIG", "OUTPUT", "SYNC_TOPIC"):
        monkeypatch.delenv(f"BEAM_UNIFIED_{name}", raising=False)


@pytest.fixture
def file(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("hush\n")
    path = tmp_path / "log.toml"
    path.write_text(FILE.replace("SECRET", str(secret)))
    return path


@pytest.fixture
def seen(monkeypatch):
    """What a command line makes of all three."""

    def sees(*arguments: str) -> settings.Stores:
        found: list[settings.Stores] = []

        @click.command()
        @settings.store_options
        def probe(stores):
            found.append(stores)

        probe.main(list(arguments), standalone_mode=False)
        return found[0]

    return sees


def test_the_file_says_what_nothing_else_does(seen, file):
    """All of it; secrets are looked up, or stay where they are."""
    found = seen("--config", str(file))
    assert isinstance(found.kafka, Kafka)
    assert isinstance(found.archive, Archive)
    assert found.kafka.bootstrap_servers == "file:9092"
    assert found.kafka.config["sasl_plain_password"] == Secret.env("PASSWORD")
    assert found.archive.root == "s3://file/root"
    options = found.archive.storage_options
    assert options["client_kwargs"] == {"endpoint_url": "http://file"}
    assert resolved(options)["secret"] == "hush"
    assert found.sync_topic == "reports"


def test_flags_count_more_than_variables_and_those_more_than_the_file(seen, file, monkeypatch):
    """Settings are merged name by name."""
    monkeypatch.setenv("BEAM_UNIFIED_CONFIG", str(file))
    monkeypatch.setenv("BEAM_UNIFIED_BOOTSTRAP_SERVERS", "env:9092")
    monkeypatch.setenv("BEAM_UNIFIED_ARCHIVE", "/env/archive")
    monkeypatch.setenv("BEAM_UNIFIED_STORAGE_OPTIONS", '{"key": "env user"}')
    found = seen("-a", "/flag/archive", "-X", "client_id=flag")
    assert isinstance(found.kafka, Kafka)
    assert isinstance(found.archive, Archive)
    assert found.kafka.bootstrap_servers == "env:9092"
    assert (found.kafka.config["client_id"], found.kafka.config["security_protocol"]) == ("flag", "SASL_SSL")
    assert found.archive.root == "/flag/archive"
    options = resolved(found.archive.storage_options)
    assert (options["key"], options["secret"]) == ("env user", "hush")
    assert seen("--kafka-only").archive is None


def test_the_default_file_is_read_where_there_is_one(seen, file, monkeypatch):
    """And missed by nobody where there is none."""
    assert isinstance(seen().kafka, settings.Nowhere)
    monkeypatch.setattr(settings, "DEFAULT_FILE", file)
    assert isinstance(seen().kafka, Kafka)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a=b", {"a": "b"}),
        ("a=b=c d", {"a": "b=c d"}),
        ("a=", {"a": ""}),
        ("a=true", {"a": True}),
        ("a=5", {"a": 5}),
        ('a="5"', {"a": "5"}),
        ('a={"b": [1]}', {"a": {"b": [1]}}),
        ('{"a": 1, "b": {"env": "X"}}', {"a": 1, "b": {"env": "X"}}),
    ],
)
def test_a_setting_is_json_where_it_looks_like_it(text, value):
    """Else it is text."""
    assert NameValue().convert(text, None, None) == value


@pytest.mark.parametrize(
    "content",
    [
        "[kafka",
        "[kafak]\nx = 1",
        "kafka = 1",
        "[kafka]\nbootstrap_server = 'hush'",
        "[kafka]\nconfig = 'hush'",
        "[archive]\nroot = 7",
    ],
)
def test_a_wrong_file_is_named_and_not_quoted(content, tmp_path):
    """A name that nobody knows is an error: a typing error would silently do nothing."""
    path = tmp_path / "wrong.toml"
    path.write_text(content)
    with pytest.raises(click.UsageError) as error:
        Settings.load(path)
    assert str(path) in error.value.message
    assert "hush" not in error.value.message


def test_secrets_are_never_shown(capsys, tmp_path):
    """Not in errors about settings, nor in reprs of what was made of them."""
    for wrong in ("hush", '{"sasl": "hush"'):
        assert main(["positions", "pins", "-b", "h:1", "-X", wrong]) == exits.USAGE
    assert main(["positions", "pins", "-b", "h:1", "-X", "sasl_plain_passwrd=hush"]) == exits.USAGE
    assert main(["positions", "pins", "-b", "h:1", "-a", "s3://user:hush@host/x"]) == exits.USAGE
    captured = capsys.readouterr()
    assert "sasl_plain_passwrd" in captured.err
    assert "hush" not in captured.out + captured.err
    made = stores(
        bootstrap_servers="h:1",
        kafka_config=[{"client_id": "hush"}],
        client=None,
        archive="s3://b/x",
        storage_option=[{"secret": "hush"}],
        kafka_only=False,
        config=None,
    )
    assert "hush" not in repr(made)


def test_no_secret_where_it_should_be_is_an_error_that_says_where(file, capsys):
    """Before anything is asked."""
    file.write_text(FILE.replace("SECRET", "/nowhere/at/all"))
    assert main(["snapshot", "show", "s3://file/pins.json", "--config", str(file)]) == exits.USAGE
    assert "/nowhere/at/all" in capsys.readouterr().err


def test_an_archive_of_another_tool_is_named_in_the_file(seen, file, capsys):
    """With what its layout takes; a name or an option that nobody knows is an error."""
    file.write_text(FILE + '[archive.layout]\nname = "aiven"\nformat = "jsonl"\nfields = ["offset", "value"]\n')
    found = seen("--config", str(file)).archive
    assert isinstance(found, Archive)
    assert found.layout == Aiven(format="jsonl", fields=("offset", "value"))
    for wrong in ("", 'name = "ours"', 'name = "secor"\nformt = "x"'):
        file.write_text(f"{FILE}[archive.layout]\nx = 1\n{wrong}\n")
        assert main(["positions", "pins", "--config", str(file)]) == exits.USAGE
        assert "[archive.layout]" in capsys.readouterr().err


def test_who_fetches_is_chosen(seen):
    """By default whatever is fastest and there."""
    assert seen("-b", "h:1").kafka.client == "auto"
    assert seen("-b", "h:1", "--client", "kafka-python").kafka.client == "kafka-python"


def test_without_brokers_the_error_says_how_to_name_them(capsys):
    """Flag, variable, file."""
    assert main(["positions", "pins"]) == exits.USAGE
    assert "BEAM_UNIFIED_BOOTSTRAP_SERVERS" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [(ConfigError("x"), 2), (KafkaUnavailableError("x"), 3), (DataLossError("x"), 4), (UnifiedLogError("x"), 1)],
)
def test_every_error_has_its_exit_code(error, code):
    """By whom it is for."""
    assert exits.exit_code(error) == code


def test_the_shell_completes_commands_and_options(monkeypatch, capsys):
    """By click's own completion, for bash, zsh and fish."""
    monkeypatch.setenv("_BEAM_UNIFIED_COMPLETE", "bash_complete")
    for words, found in (("beam-unified pos", "positions"), ("beam-unified cat --pre", "--prefer")):
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
        with pytest.raises(SystemExit):
            main([])
        assert capsys.readouterr().out.split() == [f"plain,{found}"]


def test_the_page_says_what_the_codes_mean():
    """docs/cli.md has the table of `exits`, and a section for every kind of finding."""
    page = (Path(__file__).parents[3] / "docs" / "cli.md").read_text()
    table = dict(re.findall(r"^\| (\d+) \| (.*) \|$", page, re.MULTILINE))
    assert {int(code): meaning for code, meaning in table.items()} == exits.MEANINGS
    assert all(f"`{kind}`" in page for kind in get_args(Kind))
    assert all(f"[`{name}`" in page or f"`{name}`](" in page for name in program.list_commands(click.Context(program)))
