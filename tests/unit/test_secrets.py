"""Secrets that are looked up where they are needed (B4)."""

import pickle

import pytest

from beam_unified import ConfigError, Secret
from beam_unified.secrets import resolved

VALUE = "hunter2-hunter2"


def vault():
    return VALUE


def locked():
    raise RuntimeError(f"{VALUE} is no longer valid")


@pytest.mark.rule("B4")
def test_a_secret_is_looked_up_late_and_shown_nowhere(tmp_path, monkeypatch):
    """Neither its repr nor its pickle holds the value; resolving gives it."""
    (tmp_path / "password").write_text(f"{VALUE}\n")
    monkeypatch.setenv("THE_PASSWORD", VALUE)
    for secret in (Secret.env("THE_PASSWORD"), Secret.file(str(tmp_path / "password")), Secret.call(vault)):
        assert VALUE not in repr(secret)
        assert VALUE.encode() not in pickle.dumps(secret)
        assert pickle.loads(pickle.dumps(secret)).resolve() == VALUE
        assert resolved({"a": secret, "b": 1}) == {"a": VALUE, "b": 1}


@pytest.mark.rule("B4", "B2")
@pytest.mark.parametrize("secret", [Secret.env("NOT_SET_ANYWHERE"), Secret.file("/no/such"), Secret.call(locked)])
def test_a_missing_secret_says_where_and_nothing_else(secret):
    """The error names the place; what a function says of its failure is kept back."""
    with pytest.raises(ConfigError, match="no secret from") as caught:
        secret.resolve()
    assert VALUE not in str(caught.value)
    assert caught.value.__suppress_context__
