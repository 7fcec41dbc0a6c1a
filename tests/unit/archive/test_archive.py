"""Options of `Archive`, listings, checks; errors of the storage; secrets."""

import itertools
import logging
import pickle
import threading
import traceback
from datetime import timedelta

import pytest

from beam_unified.archive.archive import Archive, ConnectedArchive
from beam_unified.archive.writer import write_flush
from beam_unified.errors import ArchiveUnavailableError, ConfigError, CorruptArchiveError
from beam_unified.offsets import TopicPartition
from beam_unified.testing import ManualClock
from tests.unit.archive.folders import TP, record

KEY, SECRET = "AKIA" + "QWERTY", "hunter2-" * 2
OPTIONS = {"key": KEY, "client_kwargs": {"aws_session_token": [SECRET], "endpoint_url": f"http://me:{SECRET}@s3"}}


def check(archive, topic="pins", isolation_level="read_committed"):
    archive.connect().check(topic, isolation_level=isolation_level)


# -- options


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("",), "root is a URL"),
        ((None,), "root is a URL"),
        (("s3://b", None), "is a dict"),
        (("s3://b", "anon"), "is a dict"),
    ],
)
def test_options_of_the_wrong_kind(arguments, message):
    """Said when the pipeline is built, with what to write."""
    with pytest.raises(ConfigError, match=message):
        Archive(*arguments)


@pytest.mark.parametrize("interval", [30, timedelta(seconds=-1)])
def test_refresh_interval_is_a_duration(interval):
    """No number without a unit."""
    with pytest.raises(ConfigError, match="refresh_interval is a timedelta"):
        Archive("s3://b", refresh_interval=interval)


@pytest.mark.rule("B2")
@pytest.mark.parametrize(
    ("root", "reason"),
    [("nonsense://x", "Protocol not known: nonsense"), ("s3://", "no bucket in it"), ("s3:///", "no bucket")],
)
def test_a_root_without_a_file_system(root, reason):
    """Named, and nobody is asked: with no bucket the topic would be taken for one."""
    with pytest.raises(ConfigError, match=f"archive {root}: .*{reason}"):
        Archive(root, {"anon": True}).connect()


def test_options_are_copied_and_compared():
    """A description does not change behind the pipeline's back; equal ones are equal after pickling, and hash alike."""
    options = {"key": KEY}
    archive = Archive("s3://b/x", options)
    options["key"] = "other"
    assert archive == pickle.loads(pickle.dumps(archive)) == Archive("s3://b/x", {"key": KEY})
    assert hash(archive) == hash(Archive("s3://b/x", {"key": KEY}))


# -- secrets


@pytest.mark.rule("B4")
@pytest.mark.parametrize(
    "root", [f"s3://{KEY}:{SECRET}@b/x", f"simplecache::s3://{KEY}:{SECRET}@b", f"zip://a::s3://{SECRET}@b"]
)
def test_credentials_in_the_root_are_refused_without_showing_them(root):
    """A root is shown in every error."""
    with pytest.raises(ConfigError, match="pass them in storage_options") as caught:
        Archive(root)
    assert not shows_secret("".join(traceback.format_exception(caught.value)))


@pytest.mark.rule("B4")
def test_no_repr_shows_an_option():
    """Neither of the description nor of the connection."""
    archive = Archive("memory://x", OPTIONS)
    pickled = pickle.loads(pickle.dumps(archive))
    assert not shows_secret(f"{archive!r} {archive} {pickled!r} {archive.connect()!r} {archive.storage()!r}")


@pytest.mark.rule("B4")
@pytest.mark.parametrize("failure", [OSError, PermissionError, RuntimeError, FileNotFoundError, TimeoutError])
@pytest.mark.parametrize("place", ["ls", "cat_file"])
def test_what_a_file_system_says_is_quoted_without_options(failing, failure, place, caplog):
    """Message, traceback, pickled error and log: the reason is there, the options are not."""
    archive = Archive("failing://logs", OPTIONS)
    write_flush(archive, TP, [record(0)], start=0, stop=1)
    failing.failures[place] = failure(f"no route for {KEY} with {SECRET} at http://me:{SECRET}@s3/logs")
    with caplog.at_level(logging.DEBUG), pytest.raises((ArchiveUnavailableError, CorruptArchiveError)) as caught:
        check(archive)
    text = "".join(traceback.format_exception(caught.value))
    assert "failing://logs" in text
    assert not shows_secret(text + caplog.text)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    if failure is not FileNotFoundError:
        assert "no route for *** with *** at http://***@s3/logs" in str(caught.value)


@pytest.mark.rule("B4")
def test_short_secrets_are_blacked_out_as_words(failing):
    """A one-letter key must not black out every letter."""
    failing.failures["ls"] = OSError("a bad day for a")
    with pytest.raises(ArchiveUnavailableError, match=r"\*\*\* bad day for \*\*\*"):
        check(Archive("failing://logs", {"key": "a", "region_name": "day", "empty": ""}))


def shows_secret(text):
    return KEY in text or SECRET in text


# -- what the storage answers


@pytest.mark.rule("B2")
@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (
            PermissionError("Forbidden"),
            r"failing://logs/pins/_commits: access denied .*Forbidden.*Check the credentials",
        ),
        (OSError("no route"), r"failing://logs/pins/_commits: the storage .*OSError: no route.*Check the endpoint"),
        (KeyError("x"), r"failing://logs/pins/_commits: the storage .*KeyError.*Check the endpoint"),
    ],
)
def test_a_storage_that_fails_is_unavailable(failing, failure, message):
    """URL, reason, next step; whatever kind of exception the client library has."""
    failing.failures["ls"] = failure
    with pytest.raises(ArchiveUnavailableError, match=message):
        check(Archive("failing://logs"))


@pytest.mark.rule("B2")
def test_a_wrong_topic_is_told_from_a_wrong_folder(root):
    """What is there instead stands in the error."""
    for topic in ("needles", "pans"):
        tp = TopicPartition(topic, 0)
        write_flush(Archive(root), tp, [record(0, tp=tp)], start=0, stop=1)
    with pytest.raises(
        ArchiveUnavailableError, match=r"no archive of topic 'pins'.*archive holds needles, pans\. Check"
    ):
        check(Archive(root))
    with pytest.raises(ArchiveUnavailableError, match=r"no archive of topic 'pins'.*/nothing is not there either"):
        check(Archive(f"{root}/nothing"))


@pytest.mark.rule("B2")
def test_a_topic_that_is_no_path_is_refused(root):
    """Before anything is asked."""
    with pytest.raises(ConfigError, match="not a name that Kafka allows"):
        check(Archive(root), topic="../pins")


@pytest.mark.rule("B2")
def test_a_writer_says_so_too(failing):
    """Nothing is committed where a part cannot be written."""
    failing.failures["pipe_file"] = OSError("disk full")
    with pytest.raises(ArchiveUnavailableError, match=r"failing://logs/pins/dt=.*disk full"):
        write_flush(Archive("failing://logs"), TP, [record(0)], start=0, stop=1)
    assert [path for method, path in failing.calls if method == "pipe_file" and "_commits" in path] == []


# -- listings


@pytest.mark.rule("R3")
def test_a_listing_is_made_once_and_anew_when_it_is_old(failing):
    """One call for any number of questions, another after `refresh_interval` or when asked for."""
    archive, clock = Archive("failing://logs", refresh_interval=timedelta(seconds=30)), ManualClock()
    log = ConnectedArchive(archive, clock)
    write_flush(archive, TP, [record(0)], start=0, stop=1)
    failing.calls.clear()
    assert [log.index(TP).stop for _ in range(3)] == [1, 1, 1]
    write_flush(archive, TP, [record(1)], start=1, stop=2)
    clock.advance(29_000)
    assert log.index(TP).stop == 1
    clock.advance(1_000)
    assert log.index(TP).stop == 2
    write_flush(archive, TP, [record(2)], start=2, stop=3)
    assert log.index(TP, refresh=True).stop == log.index(TP).stop == 3
    assert len([path for method, path in failing.calls if method == "ls"]) == 3
    assert all("/_commits/3" in path for method, path in failing.calls if method == "ls")


@pytest.mark.rule("R3")
def test_an_aged_listing_is_continued_and_made_anew_when_asked(failing):
    """A flush that lands below the last one counts when all is listed, which is before a gap is believed."""
    archive, clock = Archive("failing://logs", refresh_interval=timedelta(seconds=30)), ManualClock()
    log = ConnectedArchive(archive, clock)
    write_flush(archive, TP, [record(5)], start=5, stop=6)
    assert log.index(TP).start == 5
    write_flush(archive, TP, [record(1)], start=1, stop=2)
    write_flush(archive, TP, [record(6)], start=6, stop=8)
    clock.advance(30_000)
    assert [(flush.start, flush.stop) for flush in log.index(TP)] == [(5, 6), (6, 8)]
    assert [(flush.start, flush.stop) for flush in log.index(TP, refresh=True)] == [(1, 2), (5, 6), (6, 8)]


class _SignallingClock:
    """Never the same twice; says how often it was asked."""

    def __init__(self):
        self.asked, self._now = threading.Semaphore(0), itertools.count()

    def now_ms(self):
        raise AssertionError("listings go by the clock that never jumps")

    def wait(self, seconds):
        raise AssertionError("listings do not wait")

    def monotonic(self):
        self.asked.release()
        return float(next(self._now))


@pytest.mark.rule("R3")
def test_threads_that_ask_at_once_share_a_listing(failing, monkeypatch):
    """One listing for all that asked before it began; never one that began before they asked."""
    archive, clock = Archive("failing://logs"), _SignallingClock()
    write_flush(archive, TP, [record(0)], start=0, stop=1)
    log, go_on, found = ConnectedArchive(archive, clock), threading.Event(), []
    plain = failing.ls

    def slow(self, path, **kwargs):
        listed = plain(self, path, **kwargs)  # what is there before the others ask
        assert go_on.wait(10)
        return listed

    monkeypatch.setattr(failing, "ls", slow)
    failing.calls.clear()
    first = threading.Thread(target=lambda: log.index(TP))
    first.start()
    assert [clock.asked.acquire(timeout=10) for _ in range(2)] == [True, True]  # it asks, and it lists
    while not failing.calls:
        assert first.is_alive()
    monkeypatch.setattr(failing, "ls", plain)
    write_flush(archive, TP, [record(1)], start=1, stop=2)
    others = [threading.Thread(target=lambda: found.append(log.index(TP, refresh=True).stop)) for _ in range(4)]
    for thread in others:
        thread.start()
    assert [clock.asked.acquire(timeout=10) for _ in others] == [True] * 4
    go_on.set()
    for thread in [first, *others]:
        thread.join(10)
    assert found == [2] * 4
    assert len([path for method, path in failing.calls if method == "ls"]) == 2


@pytest.mark.rule("R3")
@pytest.mark.parametrize("options", [{}, {"use_listings_cache": True}])
def test_no_listing_comes_from_fsspecs_cache(options):
    """It never expires, so a flush that lands later would never be found."""
    files, _ = Archive("s3://logs/merced", {"anon": True, **options}).file_system()
    assert files.dircache.use_listings_cache is False


def test_s3_settings_of_the_user_win():
    """Ours are only there so that a wrong endpoint is an error in seconds."""
    ours, _ = Archive("s3://logs", {"anon": True}).file_system()
    both, _ = Archive("s3://logs", {"anon": True, "config_kwargs": {"read_timeout": 99}}).file_system()
    assert (ours.config_kwargs["connect_timeout"], ours.config_kwargs["read_timeout"]) == (5, 10)
    assert (both.config_kwargs["connect_timeout"], both.config_kwargs["read_timeout"]) == (5, 99)


@pytest.mark.rule("R3")
def test_a_listing_that_fails_leaves_the_last_one(failing):
    """And says so: an old listing is not passed off as a new one."""
    archive = Archive("failing://logs")
    write_flush(archive, TP, [record(0)], start=0, stop=1)
    log = archive.connect()
    assert log.index(TP).stop == 1
    failing.failures["ls"] = OSError("gone")
    with pytest.raises(ArchiveUnavailableError, match="gone"):
        log.index(TP, refresh=True)
    assert log.index(TP).stop == 1


@pytest.mark.rule("A1")
def test_a_flush_without_a_commit_does_not_exist(root):
    """Whatever lies in the hour folders, and whatever else lies beside the commits."""
    archive = Archive(root)
    commit = write_flush(archive, TP, [record(0)], start=0, stop=1)
    files, path = archive.file_system()
    folder = f"{path}/pins/_commits/3"
    for name in (".hidden.json", f"{0:020d}-{5:020d}-none-none.json.tmp", "_SUCCESS"):
        files.pipe_file(f"{folder}/{name}", b"")
    assert len(archive.connect().index(TP)) == 1
    (committed,) = files.glob(f"{folder}/0*.json")
    files.rm_file(committed)
    assert len(archive.connect().index(TP)) == 0
    assert files.exists(f"{path}/pins/{commit.parts[0].path}")


@pytest.mark.rule("A1")
def test_planning_opens_no_file(failing):
    """The index is made of names alone."""
    archive = Archive("failing://logs")
    for start in range(5):
        write_flush(archive, TP, [record(start)], start=start, stop=start + 1)
    failing.calls.clear()
    assert archive.connect().index(TP).stop == 5
    assert [method for method, _ in failing.calls] == ["ls"]


@pytest.mark.rule("B2")
def test_a_flush_that_was_removed_is_named_and_forgotten(broken):
    """Whoever tries again sees what is there now."""
    log = broken.archive.connect()
    (flush,) = log.index(TP)
    broken.files.rm_file(broken.commit_path)
    with pytest.raises(CorruptArchiveError, match=r"pins\[3\].*_commits/3/.*was listed and is gone"):
        log.open(TP, flush, 100)
    assert len(log.index(TP)) == 0


# -- isolation level


@pytest.mark.rule("R4")
def test_every_flush_is_checked_not_only_the_newest(root):
    """An archive whose level was changed on the way: the newest passes the check, the older one is refused when opened."""
    archive = Archive(root)
    write_flush(archive, TP, [record(0)], start=0, stop=1, isolation_level="read_uncommitted")
    write_flush(archive, TP, [record(1)], start=1, stop=2)
    log = archive.connect()
    log.check("pins", isolation_level="read_committed")
    old, new = log.index(TP)
    log.open(TP, new, 1).close()
    with pytest.raises(
        ConfigError, match=r"pins\[3\].*_commits/3/.* archived as read_uncommitted, the reader is read_com"
    ):
        log.open(TP, old, 0)


@pytest.mark.rule("R4")
def test_levels_are_those_of_each_topic(root):
    """One connection may serve two topics that were archived differently."""
    archive, other = Archive(root), TopicPartition("needles", 0)
    write_flush(archive, TP, [record(0)], start=0, stop=1)
    write_flush(archive, other, [record(0, tp=other)], start=0, stop=1, isolation_level="read_uncommitted")
    log = archive.connect()
    log.check("pins", isolation_level="read_committed")
    log.check("needles", isolation_level="read_uncommitted")
    log.open(TP, next(iter(log.index(TP))), 0).close()
    log.open(other, next(iter(log.index(other))), 0).close()
