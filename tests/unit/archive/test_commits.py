"""The commit object's JSON. Round trips are in tests/properties/test_archive_names.py."""

import json

import pytest

from beam_unified.archive import commits
from beam_unified.archive.commits import Commit, Part
from beam_unified.errors import CorruptArchiveError
from beam_unified.flushes import Flush

PATH = f"dt=1970-01-01/hr=00/3-{7:020d}-{12:020d}-1of1.parquet"
COMMIT = Commit(
    topic="pins",
    partition=3,
    flush=Flush(7, 12, 0, 5),
    isolation_level="read_committed",
    parts=(Part(path=PATH, size_bytes=2_345, rows=4),),
)
WHERE = "pins[3]: s3://logs/pins/_commits/3/x.json"


def damaged(**changes) -> bytes:
    return json.dumps({**json.loads(commits.encode(COMMIT)), **changes}).encode()


@pytest.mark.rule("A1")
def test_golden():
    """Commit objects are kept for years: these bytes are the format."""
    assert (
        commits.encode(COMMIT).decode()
        == f"""{{
  "isolation_level": "read_committed",
  "max_timestamp_ms": 5,
  "min_timestamp_ms": 0,
  "partition": 3,
  "parts": [
    {{
      "path": "{PATH}",
      "rows": 4,
      "size_bytes": 2345
    }}
  ],
  "schema_version": 1,
  "start": 7,
  "stop": 12,
  "topic": "pins"
}}
"""
    )


def test_fields_of_later_releases_of_the_same_version_are_left_alone():
    """A field more is no other version."""
    assert commits.decode(damaged(crc32="abc"), WHERE) == COMMIT


@pytest.mark.rule("B2")
@pytest.mark.parametrize("version", [0, 2, 99])
def test_other_versions_are_refused(version):
    """Both versions are named, and what to do."""
    with pytest.raises(CorruptArchiveError, match=rf"_commits/3/x.json has schema version {version}, .* reads 1"):
        commits.decode(damaged(schema_version=version), WHERE)


@pytest.mark.rule("B2")
@pytest.mark.parametrize(
    "content",
    [b"", b"null", b"[]", b"{}", b'"x"', b"\xff\xfe", b"{", commits.encode(COMMIT)[:-30], b"[" * 100_000, b"1" * 5_000,
     damaged(schema_version=True), damaged(schema_version="1"), damaged(schema_version=1.0)],
)  # fmt: skip
def test_what_is_no_commit_object_is_named(content):
    """Zero bytes, cut short, or something else: path, size and what to do."""
    with pytest.raises(CorruptArchiveError, match=r"pins\[3\].*x\.json \(\d+ bytes\) is not a commit.*Remove it"):
        commits.decode(content, WHERE)


@pytest.mark.rule("B2")
@pytest.mark.parametrize(
    "changes",
    [
        {"topic": None},
        {"topic": 5},
        {"partition": "3"},
        {"partition": True},
        {"partition": -3},
        {"partition": 4},
        {"start": 7.0},
        {"start": 12},
        {"start": -1},
        {"stop": 13},
        {"stop": 2**63},
        {"min_timestamp_ms": None},
        {"max_timestamp_ms": "5"},
        {"isolation_level": "serializable"},
        {"parts": None},
        {"parts": {}},
        {"parts": ["x"]},
        {"parts": [{}]},
        {"parts": [{"path": "../../secrets", "size_bytes": 1, "rows": 1}]},
        {"parts": [{"path": PATH, "size_bytes": -1, "rows": 1}]},
        {"parts": [{"path": PATH, "size_bytes": 1, "rows": None}]},
        {"parts": [{"path": PATH, "size_bytes": 1, "rows": 1}] * 2},
        {"parts": [{"path": PATH.replace("1of1", "1of2"), "size_bytes": 1, "rows": 1}]},
    ],
)
def test_damaged_fields_are_named(changes):
    """Types are exact; parts are those of the flush, all of them, each once, inside of the topic's folder."""
    with pytest.raises(CorruptArchiveError, match=r"pins\[3\].*x\.json is a damaged commit object .*Restore it"):
        commits.decode(damaged(**changes), WHERE)
