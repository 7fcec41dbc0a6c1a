"""Secrets in settings that are written down, in TOML or YAML: `{ env = "NAME" }`, `{ file = "PATH" }` in place of a value."""

from collections.abc import Mapping
from typing import Any

from beam_unified.secrets import Secret


def with_secrets(given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with such tables, however deep they lie, as `Secret`s, which are looked up where a connection is made."""
    return {name: _secret(value) or _nested(value) for name, value in given.items()}


def _nested(value: Any) -> Any:
    return with_secrets(value) if isinstance(value, Mapping) else value


def _secret(value: Any) -> Secret | None:
    match value:
        case {"env": str(name)} if len(value) == 1:
            return Secret.env(name)
        case {"file": str(path)} if len(value) == 1:
            return Secret.file(path)
    return None
