"""Archives one partition: reads Kafka, encodes, and does what `planning` says. Any number may run on a partition at once.

Two halves. `read` takes one fetch from Kafka into the flush in the making; it is quick. What takes long (uploads, an open claim of
somebody else) is a job: a generator that pauses before every request to the storage, so that tests can stop it anywhere. Whoever
drives an archiver runs a job to its end, in a thread if it likes, before it asks for anything else.

Nothing is remembered between two archivers but what is in the storage: a new one goes on where the commits end.
"""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from beam_unified.archive import commits, layout
from beam_unified.archive.commits import Commit
from beam_unified.archiver import claims
from beam_unified.archiver.claims import Claim
from beam_unified.archiver.encoder import WRITER, Encoded, FlushEncoder
from beam_unified.archiver.planning import Finish, FlushLimits, Read, Refuse, Settle, plan
from beam_unified.clock import Clock
from beam_unified.errors import CorruptArchiveError, DataLossError, OpenClaimError
from beam_unified.flushes import Flush
from beam_unified.offsets import OffsetRange, TopicPartition
from beam_unified.stores import Fetched, KafkaLog, OutOfRange

_LOGGER = logging.getLogger(__name__)

_FETCH_RECORDS = 10_000
_FINISH_FETCH_MS = 500

OnGap = Literal["fail", "skip"]
Job = Iterator[str]
"""Pauses before each request to the storage or the announcer, with a word for what comes next."""


class Files(Protocol):
    """What an archiver asks of a storage; see `archive.storage.Storage`."""

    def names(self, folder: str) -> list[str]: ...  # noqa: D102
    def names_after(self, folder: str, last: str) -> list[str]: ...  # noqa: D102
    def get(self, path: str) -> bytes: ...  # noqa: D102
    def put(self, path: str, content: bytes) -> None: ...  # noqa: D102
    def put_file(self, local: str, path: str) -> None: ...  # noqa: D102
    def create(self, path: str, content: bytes) -> bool: ...  # noqa: D102
    def remove(self, path: str) -> None: ...  # noqa: D102
    def url(self, path: str) -> str: ...  # noqa: D102


class Announcer(Protocol):
    """Tells the world of commits."""

    def announce(self, commit: Commit) -> None:
        """Returns when the commit is published for good. May be called several times for one commit."""
        ...

    def close(self) -> None:
        """Gives connections back. Idempotent."""
        ...


class Nobody:
    """An announcer for archives without notifications."""

    def announce(self, commit: Commit) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiverRules:
    """How a topic is archived.

    Attributes:
        limits: When a flush is due.
        on_gap: What becomes of offsets that Kafka forgot before they were archived.
        isolation_level: What the Kafka half reads, for the commits.
    """

    limits: FlushLimits = field(default_factory=FlushLimits)
    on_gap: OnGap = "fail"
    isolation_level: str = "read_committed"


class PartitionArchiver:
    """See the module. Not thread safe; the Kafka log and the announcer are its own, and closed with it.

    Args:
        tp: Topic partition.
        files: The archive's storage.
        kafka: The partition's log.
        announcer: Whom to tell.
        rules: How.
        clock: For the age of a flush.
        first: Where to begin an archive that is empty; else it goes on where the commits end.
    """

    def __init__(
        self,
        tp: TopicPartition,
        files: Files,
        kafka: KafkaLog,
        *,
        announcer: Announcer,
        rules: ArchiverRules,
        clock: Clock,
        first: int,
    ) -> None:
        """Asks nobody yet."""
        self._tp, self._files, self._kafka, self._announcer = tp, files, kafka, announcer
        self._rules, self._clock, self._first = rules, clock, first
        self._commits = f"{layout.check_topic(tp.topic)}/{layout.commits_folder(tp.partition)}"
        self._claims = f"{tp.topic}/{layout.claims_folder(tp.partition)}"
        self._committed: list[Flush] = []
        self._position: int | None = None  # where the commits end; None before the first look
        self._looking = True
        self._start = self._next = 0  # of the flush in the making: its start, and where to read on
        self._leader_epoch: int | None = None
        self._encoder: FlushEncoder | None = None
        self._began = 0.0
        self._cut_here = False

    # -- what a driver calls

    def job(self, stop: int | None = None) -> Job | None:
        """What must be done before the next `read`, run to its end; None where there is nothing.

        Raises:
            CorruptArchiveError: a claim above the position: somebody has removed commits.
        """
        if self._looking:
            match self._look():
                case Settle(position):
                    return self._settle(position)
                case Finish():
                    return self._finish()
                case Refuse(claimed):
                    raise CorruptArchiveError(
                        f"{self._tp}: there is a claim at {claimed}, {self._files.url(self._claim_path(claimed))}, but the commits "
                        f"end at {self._position}: some were removed. Restore them; or stop every archiver of the topic and "
                        "remove the claim with beam_unified.archiver.upkeep.abandon_claims."
                    )
                case Read():
                    self._looking = False
        return self._publish() if self._due(stop) else None

    def wants_job(self, stop: int | None = None) -> bool:
        """Whether `job` has something to do, or must look whether it has. Asks nobody."""
        return self._looking or self._due(stop)

    def read(self, stop: int | None, *, timeout_ms: int) -> bool:
        """One fetch into the flush in the making; whether the log went on. Call it where `job` gave None.

        Raises:
            DataLossError: Kafka has forgotten what is not archived yet, or its log ends before the archive does.
        """
        if stop is not None and self._next >= stop:
            return False
        room = self._rules.limits.room(0 if self._encoder is None else self._encoder.records)
        fetched = self._fetch(self._next, min(_FETCH_RECORDS, max(1, room)), timeout_ms)
        if isinstance(fetched, OutOfRange):
            self._skip(fetched.held)
            return True
        before, self._next = self._next, fetched.next_offset if stop is None else min(stop, fetched.next_offset)
        batch = None if fetched.batch is None else fetched.batch.between(before, stop)
        if batch is not None and len(batch):
            if self._encoder is None:
                self._encoder, self._began = FlushEncoder(self._tp, self._start), self._clock.monotonic()
            self._encoder.add(batch)
        return self._next > before

    def done(self, stop: int) -> bool:
        """Whether everything below `stop` is committed, or was given up."""
        return not self._looking and self._start >= stop

    def committed(self, offset: int) -> tuple[Flush, ...]:
        """The flushes that are known to be committed and reach beyond `offset`, by start."""
        while self._committed and self._committed[0].stop <= offset:
            self._committed.pop(0)
        return tuple(self._committed)

    @property
    def read_up_to(self) -> int:
        """Where it reads on: for estimates."""
        return self._next

    @property
    def unwritten(self) -> int:
        """Records of the flush in the making."""
        return 0 if self._encoder is None else self._encoder.records

    def close(self) -> None:
        """Closes connections, and drops what is not committed. Idempotent."""
        self._drop()
        self._kafka.close()
        self._announcer.close()

    # -- looking

    def _look(self) -> Settle | Finish | Refuse | Read:
        """Claims first, then commits: a claim that is seen here and whose commit is not, is open (or dead, `_finish` will see)."""
        claimed = [at for name in self._names(self._claims) if (at := layout.parse_claim(name)) is not None]
        known = self._position
        found = self._flushes(known)
        if known is None:
            self._say_gaps(found)
        if known is None or found:
            self._committed += found
            self._position = max([known or 0, *(flush.stop for flush in found)])
            self._restart(self._first if self._position == 0 else self._position)
        assert self._position is not None
        return plan(self._position, claimed)

    def _say_gaps(self, flushes: Sequence[Flush]) -> None:
        """An archiver goes on where the commits end: what is missing between them stays missing, and is said."""
        reached = flushes[0].start if flushes else 0
        for flush in flushes:
            if flush.start > reached:
                _LOGGER.warning(
                    "%s: the archive has no commit of offsets %d to %d. They are not archived again: what Kafka still holds of "
                    "them, Snapshot.capture(archive_missing=True) archives.", self._tp, reached, flush.start - 1,
                )  # fmt: skip
            reached = max(reached, flush.stop)

    def _flushes(self, position: int | None) -> list[Flush]:
        """The commits from a position on; None for all."""
        names = self._names(self._commits, None if position is None else f"{position:020d}")
        return sorted(flush for name in names if (flush := layout.parse_commit(name)) is not None)

    def _names(self, folder: str, after: str | None = None) -> list[str]:
        try:
            return self._files.names(folder) if after is None else self._files.names_after(folder, after)
        except FileNotFoundError:
            return []

    def _claim_path(self, position: int) -> str:
        return f"{self._claims}/{layout.claim_name(position)}"

    # -- jobs

    def _publish(self) -> Job:
        """The flush in the making: claim, check, parts, commit, announcement, release."""
        assert self._position is not None
        encoder = self._encoder or FlushEncoder(self._tp, self._start)
        self._encoder = encoder
        encoded = encoder.finish(self._next, self._rules.isolation_level)
        claim = Claim(position=self._position, commit=encoded.commit, sha256=encoded.sha256, writer=WRITER)
        content, path = claims.encode(claim), self._claim_path(self._position)
        yield "claim"
        if not self._files.create(path, content):
            yield "read the claim that was there"
            if self._content(path) != content:  # else it is this one: made by a request whose answer was lost
                self._restart(self._start)
                self._looking = True
                return
        yield from self._do(claim, encoded)

    def _finish(self) -> Job:
        """Somebody's open claim."""
        assert self._position is not None
        path = self._claim_path(self._position)
        yield "read the open claim"
        content = self._content(path)
        if content is None:
            return  # look again
        claim = claims.decode(content, f"{self._tp}: {self._files.url(path)}")
        if claim.tp != self._tp or claim.position != self._position:
            raise CorruptArchiveError(
                f"{self._tp}: {self._files.url(path)} is the claim of {claim.tp} at {claim.position}."
            )
        _LOGGER.warning("%s: finishing the open claim of offsets %s", self._tp, _range(claim))
        yield from self._do(claim, None)

    def _do(self, claim: Claim, encoded: Encoded | None) -> Job:
        """What a claim says, unless it is dead."""
        yield "check"
        found = self._flushes(claim.position)
        if found:
            self._looking = True
            yield from self._settle(claim.position)
            return
        yield from self._upload(claim, encoded)
        yield "commit"
        flush = claim.commit.flush
        self._files.put(f"{self._commits}/{layout.commit_name(flush)}", commits.encode(claim.commit))
        self._committed.append(flush)
        self._position = flush.stop
        self._restart(flush.stop)
        yield "announce"
        self._announcer.announce(claim.commit)
        yield "release"
        self._files.remove(self._claim_path(claim.position))

    def _upload(self, claim: Claim, encoded: Encoded | None) -> Job:
        """Every part; of somebody else's claim those that are not there."""
        missing = list(range(len(claim.sha256)))
        if encoded is None:
            missing = []
            for number, part in enumerate(claim.commit.parts):
                yield "look at a part"
                content = self._content(f"{self._tp.topic}/{part.path}")
                if content is None or hashlib.sha256(content).hexdigest() != claim.sha256[number]:
                    missing.append(number)
        again = None if encoded is not None or not missing else FlushEncoder(self._tp, claim.commit.flush.start)
        try:
            if again is not None:
                encoded = self._encode_again(claim, again)
            for number in missing:
                assert encoded is not None
                yield "upload a part"
                self._files.put_file(encoded.files[number], f"{self._tp.topic}/{claim.commit.parts[number].path}")
        finally:
            if again is not None:
                again.close()

    def _settle(self, position: int) -> Job:
        """The flush behind a position is committed, and its claim still there: it may not have been announced."""
        yield "read a commit"
        found = self._flushes(position)
        if found:
            content = self._content(f"{self._commits}/{layout.commit_name(found[0])}")
            if content is not None:
                yield "announce once more"
                self._announcer.announce(commits.decode(content, f"{self._tp}: {layout.commit_name(found[0])}"))
        yield "release a claim"
        self._files.remove(self._claim_path(position))

    def _encode_again(self, claim: Claim, encoder: FlushEncoder) -> Encoded:
        """The records of somebody else's claim, from Kafka. Raises OpenClaimError where they are not what was claimed."""
        offset, stop = claim.commit.flush.start, claim.commit.flush.stop
        while offset < stop:
            fetched = self._fetch(offset, _FETCH_RECORDS, _FINISH_FETCH_MS)
            if isinstance(fetched, OutOfRange):
                raise self._lost(claim, f"Kafka holds {fetched.held} now")
            if fetched.next_offset == offset and fetched.at_end:
                raise self._lost(claim, f"Kafka's log ends at {offset} now")
            batch = None if fetched.batch is None else fetched.batch.between(offset, stop)
            if batch is not None and len(batch):
                encoder.add(batch)
            offset = fetched.next_offset
        encoded = encoder.finish(stop, claim.commit.isolation_level)
        if encoded.commit != claim.commit or encoded.sha256 != claim.sha256:
            raise self._lost(claim, f"Kafka gives other content now (compaction?), or writer {WRITER!r} other bytes")
        return encoded

    def _lost(self, claim: Claim, why: str) -> OpenClaimError:
        where = self._files.url(self._claim_path(claim.position))
        return OpenClaimError(
            f"{self._tp}: offsets {_range(claim)} are claimed by {where}, parts of them are not uploaded, and they cannot be made "
            f"again: {why}; claimed by writer {claim.writer!r}. Run the version that claimed them if that is all; else stop every "
            "archiver of the topic and call beam_unified.archiver.upkeep.abandon_claims."
        )

    def _content(self, path: str) -> bytes | None:
        try:
            return self._files.get(path)
        except FileNotFoundError:
            return None

    # -- the flush in the making

    def _due(self, stop: int | None) -> bool:
        if stop is not None and self._next >= stop:
            return self._next > self._start
        encoder = self._encoder
        if encoder is None or not encoder.records:
            return False
        age_s = self._clock.monotonic() - self._began
        due = self._rules.limits.due(records=encoder.records, size_bytes=encoder.size_bytes, age_s=age_s)
        return due or encoder.full or self._cut_here

    def _fetch(self, offset: int, max_records: int, timeout_ms: int) -> Fetched | OutOfRange:
        fetched = self._kafka.fetch(
            self._tp, offset, max_records=max_records, timeout_ms=timeout_ms, leader_epoch=self._leader_epoch
        )
        if isinstance(fetched, Fetched):
            self._leader_epoch = fetched.leader_epoch
        return fetched

    def _skip(self, held: OffsetRange) -> None:
        """Kafka does not hold the next offset: an error, or, where that is allowed, a gap before the next flush."""
        if self._next > held.start:
            raise DataLossError(
                f"{self._tp}: the archive reaches offset {self._next}, Kafka's log ends at {held.stop}: it was truncated, or the "
                "topic was created anew. Archive it under another root."
            )
        lost = f"{self._tp}: Kafka has forgotten offsets {self._next} to {held.start - 1} before they were archived"
        if self._rules.on_gap == "fail":
            raise DataLossError(f"{lost}. They are lost; go on behind them with on_gap='skip'.")
        if self._encoder is not None:
            self._cut_here = True  # a flush is one stretch
            return
        _LOGGER.error("%s: skipped", lost)
        self._start = self._next = held.start

    def _restart(self, position: int) -> None:
        """Begins a flush at a position."""
        if self._next != position:
            self._leader_epoch = None
        self._drop()
        self._start = self._next = position

    def _drop(self) -> None:
        self._cut_here = False
        if self._encoder is not None:
            self._encoder.close()
            self._encoder = None


def _range(claim: Claim) -> OffsetRange:
    return OffsetRange(claim.commit.flush.start, claim.commit.flush.stop)


def archive_until(archiver: PartitionArchiver, stop: int, *, timeout_ms: int = 100) -> None:
    """Archives everything below an offset, for those who may block; see `PartitionArchiver` for what it raises."""
    while not archiver.done(stop):
        job = archiver.job(stop)
        if job is not None:
            run(job)
        elif not archiver.done(stop):
            archiver.read(stop, timeout_ms=timeout_ms)


def run(job: Job) -> None:
    """A job to its end."""
    for _ in job:
        pass
