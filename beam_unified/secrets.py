"""Secrets that stay out of the pipeline: where to find one, not what it is. Looked up on the worker, when it is needed (B4)."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from beam_unified.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Secret:
    """Where a secret is.

    Takes the place of a value in the `config` of `Kafka`, `WriteKafka` and `SchemaRegistry`, and in `storage_options`.

    A description: it travels in the pipeline and is shown in logs; the value it stands for is neither kept nor shown. Made
    by `Secret.env`, `Secret.file` or `Secret.call`.
    """

    where: str
    _look_up: Callable[[], str] = field(repr=False, compare=False)

    @staticmethod
    def env(name: str) -> "Secret":
        """Of an environment variable of the worker."""
        return Secret(f"environment variable {name}", _Variable(name))

    @staticmethod
    def file(path: str) -> "Secret":
        """Content of a file on the worker, without the newline at its end. Read anew for each connection."""
        return Secret(f"file {path}", _File(path))

    @staticmethod
    def call(function: Callable[[], str]) -> "Secret":
        """What a function gives, for example a secret manager's client. Called on the worker, must be picklable."""
        return Secret(f"function {getattr(function, '__qualname__', type(function).__name__)}", function)

    def resolve(self) -> str:
        """The secret. Raises ConfigError that says where it was looked for."""
        try:
            return self._look_up()
        except Exception as error:  # noqa: BLE001 - whatever a user's function raises
            # `from None`: what a user's function says of its failure may hold the secret.
            raise ConfigError(
                f"no secret from {self.where} ({type(error).__name__}): it must be there in every worker process, and, unless "
                "validate=False, where the pipeline is built."
            ) from None


@dataclass(frozen=True, slots=True)
class _Variable:
    name: str

    def __call__(self) -> str:
        return os.environ[self.name]


@dataclass(frozen=True, slots=True)
class _File:
    path: str

    def __call__(self) -> str:
        return Path(self.path).read_text(encoding="utf-8").rstrip("\r\n")


def resolved(config: Mapping[str, object]) -> dict[str, Any]:
    """Settings, nested ones too, with secrets in place of where they are. For a client's constructor; never to be kept or shown."""
    return {name: _resolved(value) for name, value in config.items()}


def _resolved(value: object) -> object:
    if isinstance(value, Mapping):
        return resolved(value)
    return value.resolve() if isinstance(value, Secret) else value
