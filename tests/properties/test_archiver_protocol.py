"""The archiver's protocol without services: every crash, every interleaving of a few archivers over one storage."""

import itertools
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_unified.archive.rows import SCHEMA
from beam_unified.archiver.archiver import PartitionArchiver
from beam_unified.errors import CorruptArchiveError, DataLossError, OpenClaimError
from tests.archiver_world import TOPIC, TP, World, steps

HOURS = [0, 1, 0, 0, 1, 5, 0, 1, 1, 0]


def filled():
    world = World()
    world.append(HOURS[:6])
    world.log.hole(0, 2)
    world.append(HOURS[6:])
    world.log.hole(0, 1)
    return world


def stop_of(world):
    return world.log.kafka.connect().bounds(TP).stop


@pytest.mark.rule("A2")
def test_a_crash_at_every_step_and_another_at_every_step_of_the_next():
    """A2: dies before each request, its successor before each of its own; a third one ends it: every record once, all announced."""
    total = sum(1 for _ in steps(filled().archiver(records=4), stop_of(filled())))
    assert total >= 25
    for first in range(total + 1):
        for second in range(0, 14, 1 if first % 4 == 0 else 13):
            world = filled()
            for limit, records in ((first, 4), (second, 3)):
                one = world.archiver(records=records)
                for _ in itertools.islice(steps(one, stop_of(world)), limit):
                    pass
                one.close()
            world.finish(records=5)
            world.check()


@pytest.mark.rule("A2")
@settings(max_examples=80, deadline=None)
@given(
    turns=st.lists(st.tuples(st.integers(0, 2), st.integers(1, 9), st.booleans()), max_size=25),
    sizes=st.tuples(*[st.integers(1, 7)] * 3),
    firsts=st.tuples(*[st.sampled_from([0, 0, 2])] * 3),
)
def test_three_archivers_in_any_order_with_crashes(turns, sizes, firsts):
    """A2: with limits of their own, and other ideas of where an empty archive begins; one chain of commits, every record once."""
    world = filled()
    running: dict[int, tuple[PartitionArchiver, Iterator[str]]] = {}
    for who, count, crash in turns:
        if who not in running:
            one = world.archiver(records=sizes[who], first=firsts[who])
            running[who] = one, steps(one, stop_of(world))
        for _ in itertools.islice(running[who][1], count):
            pass
        if crash:
            running.pop(who)  # a zombie would be one that is stepped later: the others are
    for one, rest in running.values():
        for _ in rest:
            pass
        one.close()
    world.finish(first=2)
    started = world.flushes()[0].start
    assert started in {0, 2}
    world.check([record.offset for record in world.log.records(0) if record.offset >= started])


@pytest.mark.rule("A2")
@settings(max_examples=40, deadline=None)
@given(before=st.integers(0, 40), between=st.integers(0, 60))
def test_a_straggler_that_wakes_up_after_others_have_gone_on_changes_nothing(before, between):
    """A2: it stands still before any request, others archive and release; then it goes on to its end."""
    world = filled()
    straggler = world.archiver(records=4)
    rest = steps(straggler, stop_of(world))
    for _ in itertools.islice(rest, before):
        pass
    other = world.archiver(records=3)
    for _ in itertools.islice(steps(other, stop_of(world)), between):
        pass
    for _ in rest:
        pass
    world.finish()
    world.check()


@pytest.mark.rule("A2")
def test_the_content_is_a_function_of_the_range():
    """A2: whoever encodes a range, in whatever portions it is fetched, writes the same bytes."""
    found = []
    for portion in (1, 3, 100):
        world = filled()
        one = world.archiver(records=100)
        fetch = one._kafka.fetch
        one._kafka = _Portions(fetch, portion)
        for _ in steps(one, stop_of(world)):
            pass
        found.append({path: content for path, content in world.files.files.items() if "_claims" not in path})
    assert found[0] == found[1] == found[2]
    assert len(found[0]) > 2


class _Portions:
    def __init__(self, fetch, most):
        self._fetch, self._most = fetch, most

    def fetch(self, tp, offset, *, max_records, **options):
        return self._fetch(tp, offset, max_records=min(max_records, self._most), **options)

    def close(self):
        pass


def until(world, word, **options):
    """An archiver that dies before the request of that name."""
    one = world.archiver(**options)
    for step in steps(one, stop_of(world)):
        if step == word:
            break
    one.close()


@pytest.mark.rule("A2")
def test_kafka_may_forget_what_is_uploaded():
    """A2: an open claim whose parts are all there needs no Kafka; also from another version of the writer."""
    world = filled()
    written = [record.offset for record in world.log.records(0)]
    until(world, "commit")
    world.log.expire(0, 4)
    world.finish()
    world.check(written)


@pytest.mark.rule("A2")
def test_a_part_with_other_content_is_made_again():
    """A2: what lies under a claimed name (half an upload, an abandoned claim's) is taken only if it is what was claimed."""
    world = filled()
    until(world, "commit")
    (first, *_) = sorted(path for path in world.files.files if path.endswith(".parquet"))
    world.files.put(first, world.files.get(first)[:-1])
    world.finish()
    world.check()


@pytest.mark.rule("A2")
@pytest.mark.parametrize("what", ["compacted", "forgotten", "other writer"])
def test_a_claim_that_cannot_be_finished_to_the_same_content_is_an_error(what, monkeypatch):
    """A2: nothing is written; the message names claim and next step; once abandoned, the range is archived as it is now."""
    world = filled()
    until(world, "upload a part")
    if what == "compacted":
        world.log.compact(0, 1)
    elif what == "forgotten":
        world.log.expire(0, 2)
    else:
        monkeypatch.setattr("beam_unified.archiver.encoder.schema_of", lambda _: SCHEMA.with_metadata({"other": "1"}))
        monkeypatch.setattr("beam_unified.archiver.archiver.WRITER", "2")
    before = dict(world.files.files)
    with pytest.raises(OpenClaimError, match=r"pins\[0\]: offsets \[0, 4\) are claimed by .*abandon_claims"):
        world.finish()
    assert world.files.files == before
    for path in world.claims():
        world.files.remove(path)
    world.finish(first=2 if what == "forgotten" else 0)
    kept = {"compacted": [0, 2, 3], "forgotten": [2, 3], "other writer": [0, 1, 2, 3]}[what]
    world.check(kept + [record.offset for record in world.log.records(0) if record.offset >= 4])


@pytest.mark.rule("A2")
def test_what_kafka_forgot_is_an_error_or_a_gap():
    """A2: never silent; with on_gap="skip" the flush before the gap is written, and the next begins behind it."""
    world = filled()
    archived = world.archiver(records=4)
    for step in steps(archived, stop_of(world)):
        if step == "release":
            break
    world.log.expire(0, 5)
    with pytest.raises(DataLossError, match="forgotten offsets 4 to 4"):
        world.finish()
    world.finish(on_gap="skip")
    assert [(flush.start, flush.stop) for flush in world.flushes()][:2] == [(0, 4), (5, 11)]
    assert 4 not in world.rows()


def test_an_archive_beyond_the_end_of_the_log_is_an_error():
    """The topic was truncated or created anew: other records would get offsets that are archived."""
    world = filled()
    world.finish()
    world.log.create_anew()
    one = world.archiver()
    assert one.job(100) is None
    with pytest.raises(DataLossError, match="truncated, or the topic was created anew"):
        one.read(100, timeout_ms=0)


def test_a_claim_above_the_commits_is_refused():
    """Somebody removed commits: what they held may be lost, and nobody guesses."""
    world = filled()
    world.finish()
    one = world.archiver()
    world.files.put(f"{TOPIC}/_claims/0/{99:020d}.json", b"{}")
    with pytest.raises(CorruptArchiveError, match="some were removed"):
        one.job(100)
