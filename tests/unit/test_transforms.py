"""Options of ReadUnified: what is refused, when, and what the user is told."""

import re
from datetime import UTC, datetime, timedelta

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.pvalue import PBegin
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.transforms.display import DisplayData
from apache_beam.utils.timestamp import Timestamp

from beam_unified.errors import ArchiveUnavailableError, ConfigError, UnknownTopicError
from beam_unified.event_time import JsonField, KafkaTimestamp
from beam_unified.positions import AtTimestamp, Start, Stop
from beam_unified.records import Record
from beam_unified.source.dofn import ReadBounded, ReadUnbounded
from beam_unified.testing import InMemoryLog, ManualClock
from beam_unified.transforms import ReadUnified

NOON = datetime(2026, 11, 16, 12, tzinfo=UTC)


@pytest.fixture
def log():
    """Two partitions of two records."""
    log = InMemoryLog("pins", partitions=2)
    for partition in range(2):
        for i in range(2):
            log.append(partition, b"%d" % i, timestamp=i)
    return log


def read(log, topic="pins", **options):
    return ReadUnified(topic, log.kafka, log.archive, **{"timestamp_fn": KafkaTimestamp(), **options})


def build(transform):
    """Applies a transform to a pipeline that is never run."""
    return beam.Pipeline(runner=FnApiRunner()) | transform


@pytest.mark.rule("B2")
def test_timestamp_fn_is_required(log):
    """Nobody gets event time by accident; the message shows the ways to give one."""
    with pytest.raises(ConfigError, match=r"timestamp_fn is required, got None: pass KafkaTimestamp\(\)"):
        ReadUnified("pins", log.kafka, log.archive)


@pytest.mark.rule("B2")
@pytest.mark.parametrize("topic", ["", None, [], ["pins", ""], b"pins", 7, re.compile(b"pins")])
def test_topics_are_names_or_a_pattern(log, topic):
    """Not bytes, not nothing, not a name that is empty."""
    with pytest.raises(ConfigError, match=rf"topic must be the name of a topic, .*, got {re.escape(repr(topic))}"):
        read(log, topic)


@pytest.mark.rule("B2")
def test_a_topic_is_named_once(log):
    """Or every record of it would come twice."""
    with pytest.raises(ConfigError, match=r"topic names a topic twice: pins, pins"):
        read(log, ["pins", "pins"])


@pytest.mark.rule("B2")
@pytest.mark.parametrize(
    ("option", "value", "allowed"),
    [
        ("on_idle", "wait", "None, 'advance', 'hold'"),
        ("output", "bytes", "'value', 'record', 'arrow'"),
        ("prefer", "newest", "'archive', 'kafka'"),
        ("prefer", None, "'archive', 'kafka'"),
    ],
)
def test_a_name_that_is_none_of_the_allowed_is_refused_with_the_list(log, option, value, allowed):
    """The message names option, value and what may be said."""
    with pytest.raises(ConfigError, match=rf"{option} must be one of {allowed}, got {value!r}"):
        read(log, **{option: value})


@pytest.mark.rule("B2")
@pytest.mark.parametrize("option", ["max_out_of_orderness", "idle_timeout", "gap_timeout"])
@pytest.mark.parametrize("value", [timedelta(seconds=-1), 5, "5s", None])
def test_durations_are_timedeltas_and_not_negative(log, option, value):
    """A bare number has no unit."""
    with pytest.raises(ConfigError, match=rf"{option} must be a timedelta of 0 to 36500 days, got"):
        read(log, **{option: value})


@pytest.mark.rule("B2")
@pytest.mark.parametrize(
    ("value", "reason"),
    [(datetime(2026, 1, 1), "has no time zone"), (5, "a number has no unit")],  # noqa: DTZ001
)
def test_an_initial_watermark_is_an_aware_instant(log, value, reason):
    """As every instant."""
    with pytest.raises(ConfigError, match=rf"initial_watermark: .*{reason}"):
        read(log, initial_watermark=value)


@pytest.mark.rule("B2")
@pytest.mark.parametrize("value", ["earliest", "2026-11-16T00:00:00Z", NOON, 42, {0: 42}])
def test_start_and_stop_are_made_by_start_and_stop(log, value):
    """Text, instants and numbers could mean several things; the message shows how to say one of them."""
    with pytest.raises(ConfigError, match=r"start must be made by Start, for example Start\.at"):
        read(log, start=value)
    with pytest.raises(ConfigError, match=r"stop must be made by Stop, for example Stop\.at"):
        read(log, stop=value)


@pytest.mark.rule("B2")
@pytest.mark.parametrize("start", [Start.earliest(), Start.latest()])
def test_a_start_is_no_stop(log, start):
    """There is no Stop.earliest or Stop.latest."""
    with pytest.raises(ConfigError, match=r"stop must be made by Stop"):
        read(log, stop=start)


@pytest.mark.rule("B2")
def test_a_start_after_the_stop_is_refused(log):
    """Where that can be known without looking, before anything is asked."""
    with pytest.raises(ConfigError, match=r"start 2026-11-16T12:00:01\.000Z is after stop 2026-11-16T12:00:00"):
        read(log, start=Start.at(NOON + timedelta(seconds=1)), stop=Stop.at(NOON))
    with pytest.raises(ConfigError, match=r"partition 1: start offset 2 is after stop offset 1"):
        read(log, start=Start.offsets({0: 0, 1: 2}), stop=Stop.offsets({0: 0, 1: 1}))


@pytest.mark.rule("R6")
def test_a_relative_start_is_compared_with_the_stop_as_of_now(log):
    """before_now is fixed when the transform is made."""
    clock = ManualClock(1_794_830_400_000)
    with pytest.raises(ConfigError, match=r"start 2026-11-16T11:00:00\.000Z is after stop"):
        read(log, start=Start.before_now("1h"), stop=Stop.at("2026-11-16T10:59:59Z"), clock=clock)


@pytest.mark.rule("R6")
def test_relative_instants_are_fixed_once_when_the_transform_is_made(log):
    """However late a partition is first looked at, it starts and stops at the same instant as the others."""
    clock = ManualClock(10_000_000)
    transform = read(log, start=Start.before_now("1h"), stop=Stop.now(), clock=clock)
    clock.advance(5_000)
    options = transform.splittable_dofn().options
    assert (options.start, options.stop) == (AtTimestamp(6_400_000), AtTimestamp(10_000_000))


@pytest.mark.rule("B2")
def test_an_unknown_topic_is_refused_while_the_pipeline_is_built(log):
    """With its name; without `validate` the workers say the same."""
    with pytest.raises(UnknownTopicError, match="'needles'"):
        build(read(log, "needles"))
    build(read(log, "needles", validate=False))


@pytest.mark.rule("B2")
def test_an_archive_of_another_topic_is_refused_while_the_pipeline_is_built(log):
    """The archive is asked for the topic that is read."""
    other = InMemoryLog("needles")
    with pytest.raises(ArchiveUnavailableError, match="'pins'"):
        build(ReadUnified("pins", log.kafka, other.archive, timestamp_fn=KafkaTimestamp()))


@pytest.mark.rule("R4")
def test_an_archive_of_another_isolation_level_is_refused_while_the_pipeline_is_built(log):
    """What is seen must not depend on the store; the message names both levels."""
    other = InMemoryLog("pins", isolation_level="read_uncommitted")
    with pytest.raises(ConfigError, match=r"read_uncommitted.*read_committed"):
        build(ReadUnified("pins", log.kafka, other.archive, timestamp_fn=KafkaTimestamp()))


@pytest.mark.rule("B2")
@pytest.mark.parametrize("option", ["start", "stop"])
def test_offsets_must_name_every_partition_and_no_other(log, option):
    """Checked as soon as the partitions are known."""
    method = Start.offsets if option == "start" else Stop.offsets
    with pytest.raises(ConfigError, match=rf"{option} gives no offset for partition 1 of topic 'pins' \(1 of 2"):
        build(read(log, **{option: method({0: 0})}))
    with pytest.raises(ConfigError, match=rf"{option} names partition 2 of topic 'pins', which has partitions 0 to 1"):
        build(read(log, **{option: method({0: 0, 1: 0, 2: 0})}))


def test_the_archive_may_be_left_out(log):
    """Kafka only."""
    build(ReadUnified("pins", log.kafka, None, timestamp_fn=KafkaTimestamp()))


@pytest.mark.rule("R9")
def test_a_stop_makes_it_bounded(log):
    """The runner must know: a bounded read ends, and batch runners take it."""
    bounded, unbounded = build(read(log, stop=Stop.now())), build(read(log))
    assert bounded.is_bounded
    assert not unbounded.is_bounded
    assert isinstance(read(log, stop=Stop.now()).splittable_dofn(), ReadBounded)
    assert isinstance(read(log).splittable_dofn(), ReadUnbounded)


def test_the_output_type_is_declared(log):
    """Coders and checks downstream rely on it."""
    assert build(read(log, output="record")).element_type is Record
    assert build(read(log)).element_type in (bytes | None, beam.typehints.Optional[bytes])


@pytest.mark.rule("T2")
@pytest.mark.parametrize(
    ("timestamp_fn", "on_idle", "advance"),
    [
        (KafkaTimestamp(), None, True),
        (KafkaTimestamp(), "hold", False),
        (JsonField("t", unit="ms"), None, False),
        (JsonField("t", unit="ms"), "advance", True),
        (lambda _: Timestamp(0), None, False),
    ],
)
def test_idle_partitions_advance_by_default_only_with_kafkas_timestamp(log, timestamp_fn, on_idle, advance):
    """Any other event time may be years from the clock."""
    options = read(log, timestamp_fn=timestamp_fn, on_idle=on_idle).splittable_dofn().options
    assert options.idle.advance == advance


@pytest.mark.rule("T1")
@pytest.mark.parametrize(
    ("options", "watermark"),
    [
        ({"start": Start.at(NOON)}, 1_794_830_400_000_000 - 5_000_000),
        ({"start": Start.at(NOON), "timestamp_fn": JsonField("t", unit="ms")}, None),
        ({"start": Start.earliest()}, None),
        ({"start": Start.offsets({0: 0, 1: 0})}, None),
        ({"initial_watermark": NOON}, 1_794_830_400_000_000),
        ({"initial_watermark": NOON, "start": Start.at(NOON - timedelta(days=1))}, 1_794_830_400_000_000),
    ],
)
def test_the_initial_watermark_is_the_start_only_where_that_is_event_time(log, options, watermark):
    """Else the minimum: a replay of 2013 that began with today's watermark would be late, all of it."""
    log.append(0, b"", timestamp=2 * 10**12)
    log.append(1, b"", timestamp=2 * 10**12)
    dofn = read(log, max_out_of_orderness=timedelta(seconds=5), **options).splittable_dofn()
    try:
        restriction = dofn.initial_restriction(("pins", 0))
        assert restriction.initial_watermark == watermark
        assert dofn.initial_estimator_state(("pins", 0), restriction).reported == watermark
    finally:
        dofn.teardown()


@pytest.mark.rule("R8")
def test_the_backlog_is_estimated_without_asking_a_store(log):
    """restriction_size runs at every self-checkpoint."""
    dofn = read(log).splittable_dofn()
    try:
        restriction = dofn.initial_restriction(("pins", 0))
        asked = dict(log.asked)
        assert dofn.restriction_size(("pins", 0), restriction) == 2
        assert dict(log.asked) == asked
    finally:
        dofn.teardown()


@pytest.mark.rule("B4")
def test_display_data_says_what_is_read_and_nothing_else(log):
    """Topic, start, stop and output; no addresses, no settings."""
    items = DisplayData.create_from(read(log, stop=Stop.at(NOON))).items
    shown = {item.key: item.value for item in items}
    assert shown["topic"] == "pins"
    assert shown["stop"] == "2026-11-16T12:00:00.000Z"
    assert set(shown) == {"topic", "start", "stop", "output"}


def test_two_reads_in_one_pipeline_do_not_share_readers(log):
    """Even of the same topic: each stands at its own offset."""
    one, other = read(log).splittable_dofn().options, read(log).splittable_dofn().options
    assert one.key != other.key


def test_it_is_applied_to_a_pipeline(log):
    """PBegin, as every root."""
    pipeline = beam.Pipeline(runner=FnApiRunner(), options=PipelineOptions())
    assert read(log).expand(PBegin(pipeline)).pipeline is pipeline
