"""What a worker keeps between calls, and that it keeps nothing for ever."""

from dataclasses import dataclass, field

import pytest

from beam_unified.archive.archive import Archive
from beam_unified.archive.writer import write_flush
from beam_unified.errors import ArchiveUnavailableError, ConfigError, KafkaUnavailableError
from beam_unified.offsets import OffsetRange, TopicPartition
from beam_unified.reading.reader import ReadOptions
from beam_unified.source import pool as pools
from beam_unified.source.pool import ReaderPool
from beam_unified.testing import InMemoryLog, ManualClock

PINS = [TopicPartition("pins", partition) for partition in range(3)]


@dataclass
class CountingKafka:
    """A Kafka half that counts its connections."""

    open: int = 0
    connects: int = 0
    isolation_level: str = "read_committed"
    fails: bool = False

    def connect(self):
        if self.fails:
            raise KafkaUnavailableError("down")
        self.open += 1
        self.connects += 1
        return CountedConnection(self)


@dataclass
class CountedConnection:
    """One of its connections."""

    source: CountingKafka
    closed: bool = False

    def bounds(self, tp):
        del tp
        return OffsetRange(0, 0)

    def close(self):
        if not self.closed:
            self.closed = True
            self.source.open -= 1


@dataclass
class CountingArchive:
    """An archive half that counts its connections."""

    log: InMemoryLog = field(default_factory=lambda: InMemoryLog("pins"))
    open: int = 0
    checks: int = 0

    def connect(self):
        self.open += 1
        return self

    def check(self, topic, *, isolation_level, must_exist=True):
        self.checks += 1
        self.log.archive.check(topic, isolation_level=isolation_level, must_exist=must_exist)

    def close(self):
        self.open -= 1


@pytest.fixture
def kafka():
    return CountingKafka()


@pytest.fixture
def archive():
    return CountingArchive()


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def pool(kafka, archive, clock):
    pool = ReaderPool(kafka, archive, ReadOptions(), clock)
    yield pool
    pool.close()


def use(pool, tp):
    """One call, which asks Kafka something: it is connected to when it is first needed."""
    with pool.lease(tp) as leased:
        leased.kafka.bounds(tp)
        return leased


@pytest.mark.rule("R8")
def test_a_reader_is_kept_between_calls(pool, kafka):
    """A new consumer costs a quarter of a second; what it learned (its pace) is kept too."""
    first = use(pool, PINS[0])
    assert use(pool, PINS[0]) is first
    assert kafka.connects == 1


@pytest.mark.rule("R8")
def test_the_archive_is_shared_by_all_partitions(pool, archive):
    """One listing per worker."""
    assert use(pool, PINS[0]).archive is use(pool, PINS[1]).archive
    assert archive.open == 1


@pytest.mark.rule("R4")
def test_every_flush_that_a_worker_opens_is_checked_for_its_isolation_level(tmp_path, kafka, clock):
    """Not only the one that was looked at while the pipeline was built: the connection that reads must know the level."""
    archive, held = Archive(str(tmp_path)), InMemoryLog("pins")
    for start, level in ((0, "read_uncommitted"), (1, "read_committed")):
        held.append(0, b"x", timestamp=0)
        write_flush(archive, PINS[0], [held.records(0)[-1]], start=start, stop=start + 1, isolation_level=level)
    pool = ReaderPool(kafka, archive, ReadOptions(), clock)
    with (
        pytest.raises(ConfigError, match=r"was archived as read_uncommitted, the reader is read_committed"),
        pool.lease(PINS[0]) as leased,
    ):
        leased.reader.read(0, stop=None, max_records=1, timeout_ms=0)
    pool.close()


@pytest.mark.rule("R4")
def test_an_archive_that_does_not_fit_is_refused_by_the_worker_too(kafka, clock):
    """Without `validate` nobody has asked it before."""
    pool = ReaderPool(kafka, InMemoryLog("pins", isolation_level="read_uncommitted").archive, ReadOptions(), clock)
    for _ in range(2):
        with pytest.raises(ConfigError, match=r"read_uncommitted.*read_committed"):
            use(pool, PINS[0])
    assert kafka.open == 0


@pytest.mark.rule("R8")
def test_connects_to_nothing_before_it_must(pool, kafka, archive):
    """A pool is made in setup; the runner may never give this worker a partition."""
    assert (kafka.connects, archive.open) == (0, 0)


@pytest.mark.rule("R8")
def test_two_calls_at_once_have_a_reader_each_and_one_is_kept(pool, kafka):
    """A runner may hold two calls of one partition for a moment; nothing is leaked."""
    with pool.lease(PINS[0]) as one, pool.lease(PINS[0]) as other:
        assert one is not other
        for leased in (one, other):
            leased.kafka.bounds(PINS[0])
        assert kafka.open == 2
    assert kafka.open == 1


@pytest.mark.rule("R8")
def test_a_reader_that_raised_is_closed_not_kept(pool, kafka):
    """Its state is unknown; a downstream failure counts, since its batch was claimed."""

    def call():
        with pool.lease(PINS[0]) as leased:
            leased.kafka.bounds(PINS[0])
            raise KeyError

    with pytest.raises(KeyError):
        call()
    assert kafka.open == 0
    use(pool, PINS[0])
    assert kafka.connects == 2


@pytest.mark.rule("R8")
def test_a_call_abandoned_by_its_runner_closes_its_reader(pool, kafka):
    """A generator that is never finished is closed by Python."""

    def call():
        with pool.lease(PINS[0]):
            yield

    generator = call()
    next(generator)
    generator.close()
    assert kafka.open == 0


@pytest.mark.rule("R8")
def test_readers_that_nobody_asks_for_are_closed_after_a_minute(pool, kafka, clock):
    """Their partitions moved to another worker."""
    use(pool, PINS[0])
    clock.advance(59_000)
    use(pool, PINS[1])
    assert kafka.open == 2
    clock.advance(2_000)
    use(pool, PINS[1])
    assert kafka.open == 1


@pytest.mark.rule("R8")
def test_closing_the_pool_closes_everything(pool, kafka, archive):
    """Readers and the archive; a closed pool can be used again."""
    for tp in PINS:
        use(pool, tp)
    pool.close()
    assert (kafka.open, archive.open) == (0, 0)
    use(pool, PINS[0])
    assert (kafka.open, archive.open) == (1, 1)


def test_a_store_that_does_not_answer_leaks_nothing(pool, kafka, archive):
    """The runner tries the bundle again, and again."""
    kafka.fails = True
    for _ in range(3):
        with pytest.raises(KafkaUnavailableError, match="down"):
            use(pool, PINS[0])
    assert (kafka.open, archive.open) == (0, 1)


@pytest.mark.rule("R8")
def test_the_last_known_end_is_remembered_without_asking(pool, kafka):
    """restriction_size runs at every self-checkpoint."""
    assert pool.known_end(PINS[0]) == 0
    pool.note_end(PINS[0], 7)
    pool.note_end(PINS[0], None)
    pool.note_end(PINS[0], 5)
    assert pool.known_end(PINS[0]) == 7
    assert pool.known_end(PINS[1]) == 0
    assert kafka.connects == 0


@pytest.mark.rule("R8")
def test_a_pool_lives_as_long_as_somebody_uses_it(kafka, archive, clock):
    """One per transform and process: the last DoFn that is torn down closes it."""

    def make():
        return ReaderPool(kafka, archive, ReadOptions(), clock)

    one, same = pools.POOLS.acquire("a", make), pools.POOLS.acquire("a", make)
    other = pools.POOLS.acquire("b", make)
    try:
        assert one is same
        assert one is not other
        use(one, PINS[0])
        pools.POOLS.release("a")
        assert kafka.open == 1
    finally:
        pools.POOLS.release("a")
        pools.POOLS.release("b")
    assert (kafka.open, archive.open) == (0, 0)
    assert pools.POOLS.acquire("a", make) is not one
    pools.POOLS.release("a")


def use_piece(pool, offset, *, read=1):
    """One call over a piece of an archived partition; gives the lease and where its file stands then."""
    with pool.lease(PINS[0], piece_at=offset) as leased:
        leased.reader.read(offset, stop=None, max_records=read, timeout_ms=0)
        return leased, leased.reader.position


@pytest.fixture
def pieces(kafka, clock):
    """A pool over eight archived flushes of ten records."""
    log = InMemoryLog("pins")
    for i in range(80):
        log.append(0, b"x", timestamp=i)
    for start in range(0, 80, 10):
        log.flush(0, start, start + 10)
    pool = ReaderPool(kafka, log.archive, ReadOptions(), clock)
    yield pool
    pool.close()


@pytest.mark.rule("R7", "R8")
def test_a_piece_finds_its_file_where_its_last_call_left_it(pieces, kafka):
    """Pieces of one partition are told apart by the offset at which they go on; none needs Kafka."""
    first, at = use_piece(pieces, 10)
    other, _ = use_piece(pieces, 30)
    assert at == 11
    assert other is not first
    assert use_piece(pieces, 11)[0] is first
    third, _ = use_piece(pieces, 50)
    assert third is not first
    assert third is not other
    assert kafka.connects == 0


@pytest.mark.rule("R7", "R8")
def test_only_a_few_pieces_keep_their_file(pieces):
    """Or a worker would hold every file of an archive. Those that were first keep it until they are done; nobody waits."""
    first = {start: use_piece(pieces, start)[0] for start in (0, 10, 20, 30)}
    late, at = use_piece(pieces, 40)
    assert at == 41
    assert late.reader.position is None
    for start, leased in first.items():
        assert use_piece(pieces, start + 1)[0] is leased
    with pieces.lease(PINS[0], piece_at=12) as leased:
        leased.reader.close()
    late, _ = use_piece(pieces, 41)
    assert late.reader.position == 42


@pytest.mark.rule("R7", "R8")
def test_a_piece_that_failed_makes_room(pieces):
    """What raised is closed, and no place is kept for it."""
    for _ in range(9):
        with pytest.raises(KeyError), pieces.lease(PINS[0], piece_at=0):
            raise KeyError
    assert use_piece(pieces, 0)[0].reader.position == 1


@pytest.mark.rule("R4")
def test_the_archive_is_asked_once_about_each_topic(pool, archive):
    """Several topics share a pool; each has an isolation level of its own to be checked."""
    other = TopicPartition("views", 0)
    archive.log = InMemoryLog("pins")
    use(pool, PINS[0])
    use(pool, PINS[1])
    assert archive.checks == 1
    with pytest.raises(ArchiveUnavailableError):
        use(pool, other)
    with pool.lease(other, archive_must_exist=False):
        assert archive.checks == 3
