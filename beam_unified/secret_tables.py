"""Secrets in settings that are written down, in TOML or YAML: `{ env = "NAME" }`, `{ file = "PATH" }` in place of a value."""

from collections.abc import Mapping
from typing import Any

from beam_unified.secrets import Secret


def with_secrets(given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a Kafka client: such tables as `Secret`s, which each worker looks up."""
    return {name: _secret(value) or value for name, value in given.items()}


def looked_up(given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings for a library that knows no `Secret`: such tables looked up here and now, however deep they lie.

    Raises:
        ConfigError: there is none; says where it was looked for.
    """
    found = dict[str, Any]()
    for name, value in given.items():
        secret = _secret(value)
        if secret is not None:
            found[name] = secret.resolve()
        else:
            found[name] = looked_up(value) if isinstance(value, Mapping) else value
    return found


def _secret(value: Any) -> Secret | None:
    match value:
        case {"env": str(name)} if len(value) == 1:
            return Secret.env(name)
        case {"file": str(path)} if len(value) == 1:
            return Secret.file(path)
    return None
