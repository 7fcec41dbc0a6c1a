"""Names and commit objects of the archive: every value has a name, every name one value."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_unified.archive import commits, layout
from beam_unified.archive.commits import Commit, Part
from beam_unified.archive.layout import PartName
from beam_unified.errors import CorruptArchiveError
from beam_unified.flushes import Flush
from tests.strategies import INT64

HOURS = st.none() | st.integers(-(2**63) // 3_600_000, 2**63 // 3_600_000)
PARTITIONS = st.integers(0, 2**31 - 1)


@st.composite
def flushes(draw: st.DrawFn) -> Flush:
    start = draw(st.integers(0, 2**63 - 2))
    times = draw(st.none() | st.tuples(INT64, INT64))
    return Flush(start, draw(st.integers(start + 1, 2**63 - 1)), *((None, None) if times is None else sorted(times)))


@st.composite
def part_names(draw: st.DrawFn) -> PartName:
    flush, parts = draw(flushes()), draw(st.integers(1, 10**6))
    return PartName(
        partition=draw(PARTITIONS), start=flush.start, stop=flush.stop, part=draw(st.integers(1, parts)), parts=parts
    )


@st.composite
def committed(draw: st.DrawFn) -> Commit:
    flush, partition = draw(flushes()), draw(PARTITIONS)
    hours = draw(st.lists(HOURS, max_size=4))
    names = [
        PartName(partition=partition, start=flush.start, stop=flush.stop, part=number, parts=len(hours))
        for number in range(1, len(hours) + 1)
    ]
    return Commit(
        topic=draw(st.from_regex(r"[a-zA-Z0-9._-]{1,20}", fullmatch=True)),
        partition=partition,
        flush=flush,
        isolation_level=draw(st.sampled_from(commits.ISOLATION_LEVELS)),
        parts=tuple(
            Part(
                path=layout.part_path(name, hour),
                size_bytes=draw(st.integers(0, 2**60)),
                rows=draw(st.integers(0, 2**60)),
            )
            for name, hour in zip(names, hours, strict=True)
        ),
    )


@pytest.mark.rule("A1")
@given(part_names(), HOURS)
def test_data_files_come_back_from_their_names(name, hour):
    """Which makes the names injective, too."""
    assert layout.parse_part(layout.part_path(name, hour)) == (name, hour)


@pytest.mark.rule("A1")
@given(flushes())
def test_flushes_come_back_from_their_names(flush):
    """Planning needs nothing but names."""
    assert layout.parse_commit(layout.commit_name(flush)) == flush


@pytest.mark.rule("A1")
@given(st.lists(flushes(), max_size=10))
def test_names_sort_by_offset(many):
    """As people see them in a listing."""
    ordered = sorted(many, key=lambda flush: (flush.start, flush.stop))
    assert [layout.commit_name(f)[:41] for f in ordered] == sorted(layout.commit_name(f)[:41] for f in many)


@pytest.mark.rule("A1")
@given(flushes(), st.data())
def test_no_other_name_is_taken_for_a_flush(flush, data):
    """One character changed: another flush, or none; never the same."""
    name = layout.commit_name(flush)
    at = data.draw(st.integers(0, len(name) - 1))
    changed = name[:at] + data.draw(st.text(max_size=2)) + name[at + 1 :]
    parsed = layout.parse_commit(changed)
    assert parsed is None or layout.commit_name(parsed) == changed


@pytest.mark.rule("A1")
@given(committed())
def test_commit_objects_come_back(commit):
    """And the same commit gives the same bytes."""
    content = commits.encode(commit)
    assert commits.decode(content, "x") == commit
    assert commits.encode(commits.decode(content, "x")) == content


@pytest.mark.rule("B2")
@given(committed(), st.data())
def test_damaged_commit_objects_are_our_error(commit, data):
    """Any bytes: a commit, or CorruptArchiveError with the path, nothing else."""
    content = commits.encode(commit)
    start, stop = sorted(data.draw(st.tuples(*[st.integers(0, len(content))] * 2)))
    damaged = content[:start] + data.draw(st.binary(max_size=4)) + content[stop:]
    try:
        found = commits.decode(damaged, "s3://logs/x.json")
    except CorruptArchiveError as error:
        assert "s3://logs/x.json" in str(error)  # noqa: PT017 - some damage is harmless
    else:
        assert isinstance(found, Commit)
