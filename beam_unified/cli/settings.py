"""Where the log is: flags, then environment variables, then one TOML file, then defaults.

    [kafka]
    bootstrap_servers = "broker:9092"
    config = { security_protocol = "SASL_SSL", sasl_plain_password = { env = "KAFKA_PASSWORD" } }

    [archive]
    root = "s3://company-logs/merced"
    storage_options = { client_kwargs = { endpoint_url = "https://s3.example.org" }, secret = { file = "/run/secrets/s3" } }

    [sync]
    topic = "beam-unified-sync-replay"

Settings of Kafka and of the storage are merged name by name: what a flag or variable says of one leaves the others. A value
`{ env = "NAME" }` or `{ file = "PATH" }` is looked up when it is needed. No setting is ever printed.
"""

import functools
import json
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, get_args

import click

from beam_unified.archive.archive import Archive
from beam_unified.archive.foreign.aiven import Aiven
from beam_unified.archive.foreign.confluent import Confluent
from beam_unified.archive.foreign.layout import Layout
from beam_unified.archive.foreign.secor import Secor
from beam_unified.kafka.client import Kafka
from beam_unified.kafka.clients import Client
from beam_unified.secret_tables import with_secrets
from beam_unified.stores import ArchiveLog, ArchiveSource, KafkaLog, KafkaSource

DEFAULT_FILE = Path("~/.config/beam-unified.toml")

_KNOWN: Mapping[str, Mapping[str, type]] = {
    "kafka": {"bootstrap_servers": str, "config": dict, "client": str},
    "archive": {"root": str, "storage_options": dict, "layout": dict},
    "sync": {"topic": str},
}

_LAYOUTS: Mapping[str, Callable[..., Layout]] = {"secor": Secor, "confluent": Confluent, "aiven": Aiven}

_CLIENT = "auto"

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Stores:
    """Both halves of the log, as a command gets them.

    Attributes:
        kafka: The Kafka half.
        archive: None reads Kafka only.
        sync_topic: Topic of sync groups; empty for the default, which follows from the group's name.
        storage_options: For other files than those of the archive. Never shown.
    """

    kafka: KafkaSource
    archive: ArchiveSource | None
    sync_topic: str = ""
    storage_options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @contextmanager
    def connected(self) -> Iterator[tuple[KafkaLog, ArchiveLog | None]]:
        """Both halves, connected, until the block ends."""
        with ExitStack() as stack:
            log = stack.enter_context(closing(self.kafka.connect()))
            archive = None if self.archive is None else stack.enter_context(closing(self.archive.connect()))
            yield log, archive

    def real_archive(self, wanted_for: str) -> Archive:
        """The archive, for what needs its files. Raises click.UsageError."""
        if not isinstance(self.archive, Archive):
            raise click.UsageError(f"{wanted_for} needs an archive: give --archive or [archive] root.")
        return self.archive

    def real_kafka(self, wanted_for: str) -> Kafka:
        """The brokers, for what writes to them. Raises click.UsageError."""
        if not isinstance(self.kafka, Kafka):
            raise click.UsageError(f"{wanted_for} needs brokers: give --bootstrap-servers.")
        return self.kafka


@dataclass(frozen=True, slots=True)
class Settings:
    """What the TOML file says. Values never show."""

    bootstrap_servers: str | None = None
    kafka_config: Mapping[str, Any] = field(default_factory=dict, repr=False)
    client: str = _CLIENT
    archive: str | None = None
    storage_options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    layout: Mapping[str, Any] = field(default_factory=dict)
    sync_topic: str = ""

    @classmethod
    def load(cls, path: Path | None) -> "Settings":
        """Of a file; of the default one, if there is one, for None. Raises click.UsageError, which quotes no value."""
        file = DEFAULT_FILE.expanduser() if path is None else path
        if path is None and not file.exists():
            return cls()
        try:
            document = tomllib.loads(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise click.UsageError(f"cannot read {file}: {error.strerror}.") from None
        except ValueError as error:
            raise click.UsageError(f"{file} is not TOML: {error}.") from None
        for section, names in document.items():
            known = _KNOWN.get(section)
            if known is None or not isinstance(names, dict):
                raise click.UsageError(
                    f"{file}: unknown [{section}], it has {', '.join(f'[{one}]' for one in _KNOWN)}."
                )
            for name, value in names.items():
                if name not in known or not isinstance(value, known[name]):
                    wanted = ", ".join(f"{one} ({kind.__name__})" for one, kind in known.items())
                    raise click.UsageError(
                        f"{file}: [{section}] {name} is unknown or of the wrong type; there is {wanted}."
                    )
        kafka, archive = document.get("kafka", {}), document.get("archive", {})
        return cls(
            bootstrap_servers=kafka.get("bootstrap_servers"),
            kafka_config=kafka.get("config", {}),
            client=kafka.get("client", _CLIENT),
            archive=archive.get("root"),
            storage_options=archive.get("storage_options", {}),
            layout=archive.get("layout", {}),
            sync_topic=document.get("sync", {}).get("topic", ""),
        )


class NameValue(click.ParamType[dict[str, Any]]):
    """`name=value`, or a JSON object of them. A value is JSON where it is `true`, a number, an object or quoted, else text."""

    name = "name=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, Any]:
        """Errors quote the name only: a value may be a secret."""
        if isinstance(value, dict):
            return value
        if value.lstrip().startswith("{"):
            try:
                found: dict[str, Any] = json.loads(value)
            except ValueError:
                self.fail("it begins with '{' and is not JSON.", param, ctx)
            return found
        name, equals, text = value.partition("=")
        if not equals or not name:
            self.fail("it is not of the form name=value.", param, ctx)
        try:
            return {name: json.loads(text)}
        except ValueError:
            return {name: text}

    def split_envvar_value(self, rv: str) -> Sequence[str]:
        """A variable holds one object, or one pair: values may contain blanks."""
        return [rv]


_OPTIONS = (
    click.option(
        "--bootstrap-servers", "-b", metavar="HOST:PORT", envvar="BEAM_UNIFIED_BOOTSTRAP_SERVERS", help="Kafka's brokers."
    ),
    click.option(
        "--kafka-config", "-X", type=NameValue(), multiple=True, envvar="BEAM_UNIFIED_KAFKA_CONFIG",
        help="A setting of the Kafka client, by Kafka's names. Repeatable.",
    ),
    click.option(
        "--client", type=click.Choice(get_args(Client)), envvar="BEAM_UNIFIED_KAFKA_CLIENT",
        help="Who fetches from Kafka. [default: auto, which is librdkafka where it is installed]",
    ),
    click.option(
        "--archive", "-a", metavar="URL", envvar="BEAM_UNIFIED_ARCHIVE", help="Folder above the archived topics: s3://bucket/folder."
    ),
    click.option(
        "--storage-option", "-S", type=NameValue(), multiple=True, envvar="BEAM_UNIFIED_STORAGE_OPTIONS",
        help="An option of the archive's file system (fsspec). Repeatable.",
    ),
    click.option("--kafka-only", is_flag=True, help="Leave the archive out, wherever it is set."),
    click.option(
        "--config", type=click.Path(path_type=Path, dir_okay=False), envvar="BEAM_UNIFIED_CONFIG",
        help=f"TOML file with what is not given here. [default: {DEFAULT_FILE}]",
    ),
)  # fmt: skip


def store_options(command: Callable[..., _T]) -> Callable[..., _T]:
    """Gives a command the options that say where the log is, and hands it `Stores` in front of its other arguments."""

    @functools.wraps(command)
    def with_stores(*args: Any, **kwargs: Any) -> _T:
        given = {name: kwargs.pop(name) for name in _NAMES}
        prepared = click.get_current_context().obj
        return command(prepared if isinstance(prepared, Stores) else stores(**given), *args, **kwargs)

    for option in reversed(_OPTIONS):
        with_stores = option(with_stores)
    return with_stores


_NAMES = ("bootstrap_servers", "kafka_config", "client", "archive", "storage_option", "kafka_only", "config")


def stores(
    *,
    bootstrap_servers: str | None,
    kafka_config: Sequence[Mapping[str, Any]],
    client: Client | None,
    archive: str | None,
    storage_option: Sequence[Mapping[str, Any]],
    kafka_only: bool,
    config: Path | None,
) -> Stores:
    """What flags and environment say, laid over what the file says. Raises click.UsageError, ConfigError."""
    settings = Settings.load(config)
    servers = bootstrap_servers or settings.bootstrap_servers
    kafka_settings = with_secrets({**settings.kafka_config, **_merged(kafka_config)})
    chosen: Any = client or settings.client  # checked by Kafka
    kafka = Kafka(servers, kafka_settings, client=chosen) if servers else Nowhere()
    root = archive or settings.archive
    options = with_secrets({**settings.storage_options, **_merged(storage_option)})
    return Stores(
        kafka=kafka,
        archive=None if kafka_only or not root else Archive(root, options, layout=_layout(settings.layout)),
        sync_topic=settings.sync_topic,
        storage_options=options,
    )


@dataclass(frozen=True, slots=True)
class Nowhere:
    """The Kafka half where none is set: for commands that may do without. Implements `stores.KafkaSource`."""

    isolation_level: str = "read_committed"

    def connect(self) -> KafkaLog:
        """Raises click.UsageError."""
        raise click.UsageError(
            "where is Kafka? Give --bootstrap-servers HOST:PORT, BEAM_UNIFIED_BOOTSTRAP_SERVERS or [kafka] bootstrap_servers."
        )


def _layout(given: Mapping[str, Any]) -> Layout | None:
    """`[archive.layout]`: a name, and what the layout of that name takes as text, lists, true and false."""
    if not given:
        return None
    options = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    make = _LAYOUTS.get(str(options.pop("name", None)))
    if make is None:
        raise click.UsageError(f"[archive.layout] needs a name, of {', '.join(_LAYOUTS)}.")
    try:
        return make(**options)
    except TypeError as error:
        raise click.UsageError(f"[archive.layout] {error}.") from None


def _merged(pairs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {name: value for pair in pairs for name, value in pair.items()}
