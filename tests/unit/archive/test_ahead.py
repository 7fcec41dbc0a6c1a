"""Reading ahead: what comes out is what would have come out, no more is held than the depth, and nothing runs on."""

import threading
from datetime import timedelta
from pathlib import Path

import pytest
from apache_beam.runners.sdf_utils import RestrictionTrackerView, ThreadsafeRestrictionTracker
from hypothesis import given
from hypothesis import strategies as st

from beam_unified import Archive, KafkaTimestamp, ReadUnified, Stop
from beam_unified.archive import reader
from beam_unified.archive.ahead import THREAD_NAME, Opening, ReadAhead, Threads
from beam_unified.archive.reader import CommittedFlush
from beam_unified.archive.writer import write_flush
from beam_unified.errors import ArchiveUnavailableError
from beam_unified.harness import BUDGETS, exhaust
from beam_unified.source.pacing import CallBudget
from beam_unified.testing import InMemoryLog
from tests.strategies import TP


def running():
    return [thread for thread in threading.enumerate() if thread.name.startswith(THREAD_NAME)]


@pytest.fixture
def threads():
    threads = Threads()
    yield threads
    threads.close()
    threads.close()
    assert not running()


class Source:
    """Numbers, and how many were taken out; fails at one of them, perhaps."""

    def __init__(self, count, fails_at=None):
        self.taken, self._count, self._fails_at = 0, count, fails_at

    def __iter__(self):
        return self

    def __next__(self):
        if self.taken == self._fails_at:
            raise ArchiveUnavailableError("lost")
        if self.taken == self._count:
            raise StopIteration
        self.taken += 1
        return self.taken


@pytest.mark.rule("R1")
@given(st.integers(0, 12), st.integers(1, 4), st.none() | st.integers(0, 12))
def test_items_come_in_order_and_never_further_ahead_than_the_depth(count, depth, fails_at):
    """The first of them at most before anyone asks; an error behind all that came before it, as often as it is met."""
    threads, source = Threads(), Source(count, fails_at)
    ahead = ReadAhead(source, threads, depth)
    found: list[int] = []
    while True:
        assert source.taken <= (len(found) + depth if found else 1)
        try:
            found.append(next(ahead))
        except StopIteration:
            assert fails_at is None or fails_at > count
            break
        except ArchiveUnavailableError:
            with pytest.raises(ArchiveUnavailableError):
                next(ahead)
            break
    assert found == list(range(1, 1 + (count if fails_at is None else min(count, fails_at))))
    assert next(ahead, None) is None if fails_at is None else True
    threads.close()


def test_it_does_read_ahead(threads):
    """Up to the depth, without being asked."""
    source = Source(10)
    ahead = ReadAhead(source, threads, 3)
    assert next(ahead) == 1
    with ahead._changed:
        assert ahead._changed.wait_for(lambda: source.taken == 4 and not ahead._running, timeout=10)
    ahead.close()
    assert next(ahead, None) is None


class Gate:
    """An item that comes when it is let go."""

    def __init__(self):
        self.asked, self.open, self.done = threading.Event(), threading.Event(), False

    def __iter__(self):
        return self

    def __next__(self):
        self.asked.set()
        assert self.open.wait(10)
        self.done = True
        return 1


def test_closing_waits_for_the_item_that_is_being_read(threads):
    """It uses files that are to be closed next."""
    gate = Gate()
    ahead = ReadAhead(gate, threads, 1)
    assert gate.asked.wait(10)
    threading.Timer(0.05, gate.open.set).start()
    ahead.close()
    assert gate.done
    assert next(ahead, None) is None


def test_closed_threads_leave_nobody_waiting(threads):
    """What was read ahead is given, the rest is read by whoever asks."""
    ahead = ReadAhead(Source(10), threads, 2)
    assert next(ahead) == 1
    threads.close()
    assert not running()
    assert list(ahead) == list(range(2, 11))
    assert isinstance(threads.submit(fail).exception(), ArchiveUnavailableError)


class Flush:
    """A flush that counts."""

    def __init__(self):
        self.closed = threading.Event()

    def read(self, max_records):
        raise NotImplementedError

    def close(self):
        self.closed.set()


def fail():
    raise ArchiveUnavailableError("lost")


def test_a_flush_that_is_not_wanted_is_closed_when_it_is_open_or_not_opened(threads):
    """Nobody waits for it meanwhile."""
    let_go, opened, others = threading.Event(), Flush(), []

    def open_flush():
        assert let_go.wait(10)
        return opened

    def open_other():
        others.append(1)
        return opened

    openings = [Opening(threads, open_flush) for _ in range(4)]  # all of the threads
    never = Opening(threads, open_other)
    for opening in (*openings, never):
        opening.close()
    assert not opened.closed.is_set()
    let_go.set()
    assert opened.closed.wait(10)
    threads.close()
    assert others == []
    failing = Opening(threads, fail)
    failing.close()


# -- in a read


@pytest.fixture
def archived(tmp_path, monkeypatch):
    """Flushes of six records, read piece by piece and two records at a time; and a Kafka that holds the last ones."""
    monkeypatch.setattr(reader, "_WHOLE_FILE_BYTES", 0)
    monkeypatch.setattr(reader, "_BATCH_ROWS", 2)
    log, archive = InMemoryLog(TP.topic), Archive(tmp_path.as_posix())
    for i in range(20):
        log.append(0, b"%d" % i, timestamp=i * 1_000)
    for start in (0, 6, 12):
        write_flush(archive, TP, log.records(0)[start : start + 6], start=start, stop=start + 6)
    log.expire(0, 18)
    return log, archive


def read(log, archive, **options):
    defaults = {"timestamp_fn": KafkaTimestamp(), "stop": Stop.offsets({0: 20}), "max_out_of_orderness": timedelta(0)}
    return ReadUnified(TP.topic, log.kafka, archive, **{**defaults, **options})


def open_files():
    return sorted(
        path.resolve().name for path in Path("/proc/self/fd").iterdir() if path.resolve().suffix == ".parquet"
    )


@pytest.mark.rule("R1", "R7")
@pytest.mark.parametrize("options", [{}, {"ordered": False}, {"output": "arrow"}])
def test_positions_are_exact_at_every_checkpoint(archived, options):
    """Whatever was read ahead at a split: each record once, in order. Nothing runs or is open afterwards."""
    log, archive = archived
    report = exhaust(read(log, archive, **options), (TP.topic, 0), budgets=BUDGETS[1:2], fractions=(0.0, 0.5))
    values = [one.value if options.get("output") else one for one, _ in report.emitted]
    assert values == [b"%d" % i for i in range(20)]
    assert report.splits > 20
    assert not running()
    assert open_files() == []


@pytest.mark.rule("R8")
def test_nothing_is_left_by_a_read_that_is_torn_down_in_its_middle(archived):
    """Two flushes are open then, and threads are at work."""
    log, archive = archived
    dofn = read(log, archive).splittable_dofn()
    dofn.setup()
    restriction = dofn.initial_restriction((TP.topic, 0))
    state = dofn.initial_estimator_state((TP.topic, 0), restriction)
    object.__setattr__(dofn.options, "budget", CallBudget(records=2, batch_records=2))
    tracker = RestrictionTrackerView(ThreadsafeRestrictionTracker(dofn.create_tracker(restriction)))
    outputs = dofn.process((TP.topic, 0), tracker=tracker, estimator=dofn.create_watermark_estimator(state))
    assert len(list(outputs)) == 1
    assert running()
    assert open_files()
    dofn.teardown()
    assert not running()
    assert open_files() == []


def test_the_next_flush_is_open_before_its_turn(archived, monkeypatch):
    """By a thread, and it is the one that is read then: no flush is opened twice."""
    log, archive = archived
    opened, plain = [], CommittedFlush.__init__

    def noted(self, *arguments):
        opened.append((arguments[2].flush.start, threading.current_thread().name.startswith(THREAD_NAME)))
        plain(self, *arguments)

    monkeypatch.setattr(CommittedFlush, "__init__", noted)
    exhaust(read(log, archive), (TP.topic, 0), budgets=BUDGETS[:1], fractions=())
    assert sorted(opened) == [(0, False), (6, True), (12, True)]
