"""What every coordinator must do: the one in memory, and the one over a topic of Kafka.

class TestMyCoordinator(CoordinatorContract):
    @pytest.fixture
    def source(self):
        ...  # a CoordinatorSource whose logs are empty
"""

import pickle
import time
import uuid
from typing import Any

import pytest

from beam_unified.offsets import TopicPartition
from beam_unified.sync.coordinator import CoordinatorSource
from beam_unified.sync.reports import LimitChange, Phase, RateLimit, Report


class CoordinatorContract:
    """The rules. Give the fixture `source`."""

    @pytest.fixture
    def source(self) -> CoordinatorSource:
        """To be overridden."""
        raise NotImplementedError

    @pytest.fixture
    def run_id(self):
        return uuid.uuid4().hex

    @pytest.fixture
    def connect(self, source, run_id):
        """Connections to one run, or another; closed after the test, twice."""
        made = []

        def connected(group="group", run=run_id):
            made.append(source.connect(group, run))
            return made[-1]

        yield connected
        for coordinator in made:
            coordinator.close()
            coordinator.close()

    @pytest.mark.rule("S6")
    def test_what_was_published_comes_back_to_everyone_as_it_was(self, connect):
        """Every attribute, on the connection that published it and on others, also on one that comes later."""
        entries = [
            report(
                0, -(2**62), 2**63 - 1, phase=Phase.DONE, partitions=10_000, claim=10**9, author="ü", sequence=2**40
            ),
            report(1, None, 0),
            LimitChange(topic="pins", limit=RateLimit(records_per_s=0.5)),
            LimitChange(topic="ads", limit=RateLimit(bytes_per_s=10**12)),
        ]
        one, other = connect(), connect()
        for entry in entries:
            one.publish(entry)
        for coordinator in (one, other, connect()):
            assert [logged.entry for logged in read(coordinator, 4)] == entries

    @pytest.mark.rule("S6")
    def test_everyone_reads_one_order(self, connect):
        """Whoever published: the newest of two reports must be the same one for every worker."""
        one, other = connect(), connect()
        for sequence in range(1, 11):
            one.publish(report(sequence, sequence, 0, author="one"))
            other.publish(report(sequence, -sequence, 0, author="other"))
        first, second = read(one, 20), read(other, 20)
        assert first == second
        assert [logged.at_ms for logged in first] == sorted(logged.at_ms for logged in first)

    @pytest.mark.rule("S6")
    def test_a_later_connection_knows_the_newest_of_each_subject(self, connect):
        """And is not caught up before it has handed that out."""
        one = connect()
        for sequence in range(1, 6):
            one.publish(report(0, sequence * 100, sequence, sequence=sequence))
            one.publish(report(1, sequence, sequence, sequence=sequence))
            read_until(one, lambda entries, wanted=sequence: newest(entries, 1).sequence == wanted)
        late = connect()
        assert not late.caught_up()
        entries = read_until(late, lambda _: late.caught_up())
        assert newest(entries, 0).watermark == 500
        assert newest(entries, 1).watermark == 5

    @pytest.mark.rule("S6")
    def test_an_empty_log_is_caught_up_with(self, connect):
        """The first worker must not wait for others to come."""
        coordinator = connect()
        assert read_until(coordinator, lambda _: coordinator.caught_up()) == []

    @pytest.mark.rule("S6")
    def test_runs_and_groups_never_see_each_other(self, connect):
        """The run before wrote the same members into the same topic."""
        mine, other_run, other_group = connect(), connect(run="another-run"), connect(group="another-group")
        other_run.publish(report(0, 1, 1))
        other_group.publish(report(0, 2, 2))
        for coordinator in (other_run, other_group):
            assert len(read(coordinator, 1)) == 1
        mine.publish(report(0, 3, 3))
        assert [logged.entry.watermark for logged in read(mine, 1)] == [3]

    def test_nothing_is_handed_out_twice(self, connect):
        """What was drained is gone."""
        coordinator = connect()
        coordinator.publish(report(0, 1, 1))
        read(coordinator, 1)
        assert list(coordinator.drain()) == []

    def test_a_closed_connection_leaves_what_it_published(self, connect):
        """The last report of a worker says that its readers are done: it must arrive."""
        coordinator = connect()
        coordinator.publish(report(0, 1, 1, phase=Phase.DONE))
        coordinator.close()
        assert read(connect(), 1)[0].entry.phase is Phase.DONE

    def test_the_description_is_picklable(self, source, run_id, connect):
        """It travels with the pipeline; its copy joins the same log."""
        connect().publish(report(0, 7, 7))
        copy = pickle.loads(pickle.dumps(source)).connect("group", run_id)
        assert read(copy, 1)[0].entry.watermark == 7
        copy.close()


def report(partition, watermark, position, *, phase=Phase.KAFKA, partitions=2, claim=0, author="a", sequence=1):
    return Report(
        member=TopicPartition("pins", partition),
        watermark=watermark,
        position=position,
        phase=phase,
        partitions=partitions,
        claim=claim,
        author=author,
        sequence=sequence,
    )


def newest(entries, partition):
    return [entry for entry in entries if entry.member.partition == partition][-1]


def read(coordinator, count, timeout_s=30.0):
    """So many entries, with their places; fails when they do not come."""
    found: list[Any] = []
    deadline = time.monotonic() + timeout_s
    while len(found) < count:
        found.extend(coordinator.drain())
        assert time.monotonic() < deadline, f"{len(found)} of {count} entries came: {found}"
        time.sleep(0.01)
    return found


def read_until(coordinator, enough, timeout_s=30.0):
    """Entries until the condition holds of them."""
    found: list[Any] = []
    deadline = time.monotonic() + timeout_s
    while True:
        found.extend(logged.entry for logged in coordinator.drain())
        try:
            if enough(found):
                return found
        except IndexError:
            pass
        assert time.monotonic() < deadline, f"not among {len(found)} entries: {found[-3:]}"
        time.sleep(0.01)
