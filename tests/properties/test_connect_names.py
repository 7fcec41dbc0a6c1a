"""Names of Kafka Connect's sinks: every file comes back from its name, whatever the topic holds."""

from datetime import datetime

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from beam_unified.archive.foreign.aiven_names import DEFAULT_TEMPLATE, AivenFile, AivenNames
from beam_unified.archive.foreign.confluent_names import (
    DAILY,
    HOURLY,
    ConfluentFile,
    ConfluentNames,
    DefaultPartitioner,
    FieldPartitioner,
    TimeBasedPartitioner,
)
from beam_unified.errors import ConfigError
from beam_unified.offsets import MAX_OFFSET

TOPICS = st.from_regex(r"[a-zA-Z0-9._-]{1,12}", fullmatch=True) | st.sampled_from(
    ["a-1", "a-1-2", "1", "t.keys", "a+1", "a-0-00000"]
)
PARTITIONS = st.integers(0, 2**31 - 1)
OFFSETS = st.integers(0, MAX_OFFSET)
TIMES = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31))  # noqa: DTZ001 - in the sink's own zone
VALUES = st.none() | st.integers() | st.text("abc/=é ", max_size=6)


@st.composite
def partitioners(draw, partition):
    """A partitioner, and folders that it makes."""
    time = draw(TIMES)
    by_time = draw(
        st.sampled_from(
            [DAILY, HOURLY, TimeBasedPartitioner("'d='yyyy-M-d/'it''s'/HH:mm"), TimeBasedPartitioner("YYYY")]
        )
    )
    fields = FieldPartitioner(("country", "a.b"))
    values = {name: draw(VALUES) for name in fields.names}
    return draw(
        st.sampled_from(
            [
                (DefaultPartitioner(), DefaultPartitioner().folders(partition)),
                (fields, fields.folders(values)),
                (by_time, by_time.folders(time)),
            ]
        )
    )


@st.composite
def confluent(draw):
    """Names, a file of them, and its path."""
    partition, start = draw(PARTITIONS), draw(OFFSETS)
    partitioner, folders = draw(partitioners(partition))
    last = draw(st.none() | st.integers(start, MAX_OFFSET))
    extension = draw(st.sampled_from([".avro", ".json.gz", ".snappy.parquet", ".bin"]))
    names = ConfluentNames(
        extension=extension.replace(".", r"\."),
        partitioner=partitioner,
        topics_dir=draw(st.sampled_from(["topics", "", "a/b"])),
        file_delim=draw(st.sampled_from(["+", "-", "_", ".", "__"])),
        ends=last is not None,
    )
    side = draw(st.sampled_from(["", ".keys", ".headers"]))
    file = ConfluentFile(
        topic=draw(TOPICS), folders=folders, partition=partition, start=start, last=last, side=side, extension=extension
    )
    return names, file, names.path(file, draw(st.sampled_from([1, 10, 20])))


@given(confluent())
def test_files_of_confluent_come_back(case):
    """A3: every partitioner, delimiter, padding and side file; below the topic's folder."""
    names, file, path = case
    assume(file.topic not in {".", ".."})
    assert names.parse(file.topic, path) == file
    assert path.startswith(f"{names.folder(file.topic)}/")


@given(confluent(), TOPICS)
def test_a_name_is_of_one_topic(case, other):
    """A3: of none other, where the topic is known; where it is not, the folder must be the topic's."""
    names, file, path = case
    assert names.parse(other, path) is None or other == file.topic
    found = names.parse(None, path)
    assert found is None or found.topic == file.topic


@pytest.mark.parametrize(
    "path",
    [
        "topics/t/partition=1/t+0+0000000000.avro", "topics/t/partition=0/t+0+0000000000.json",
        "topics/t/partition=0/u+0+0000000000.avro",
        "other/t/partition=0/t+0+0000000000.avro", "topics/t/t+0+0000000000.avro", "topics/t/partition=0/t+0+00000000.00.avro",
        "topics/t/partition=0/t+0+99999999999999999999.avro", "topics/t/partition=0/t+0+0+1.avro",
        "topics/+tmp/t/partition=0/t+0+0.avro",
        "topics/t/partition=0/t+0+\u0660.avro", "topics/t/tombstone/t+0+0000000000.keys.avro", "",
    ],
)  # fmt: skip
def test_what_the_sink_does_not_write_is_none_of_it(path):
    """A3: another partition's folder, topic, extension, digits; temporary files."""
    names = ConfluentNames(extension=r"\.avro")
    assert names.parse("t", path) is None
    assert names.parse("t", "topics/t/partition=0/t+0+0000000000.avro") is not None


@pytest.mark.parametrize("pattern", ["'year'=YYYY/'w'=ww", "YYYY/MMM", "yy", "'open", "YYYY/EEE"])
def test_patterns_that_are_not_digits_are_refused(pattern):
    """B2: a folder that is not understood would match anything."""
    with pytest.raises(ConfigError, match="path_format"):
        TimeBasedPartitioner(pattern)


TEMPLATES = [
    (DEFAULT_TEMPLATE, False),
    ("{{topic}}-{{partition:padding=true}}-{{start_offset:padding=true}}.csv.gz", False),
    (
        "{{ topic }}/{{timestamp:unit=yyyy}}/{{timestamp:unit=MM}}/{{timestamp:unit=dd}}/{{ partition }}-{{ start_offset }}",
        True,
    ),
    ("{{timestamp:unit=yyyy}}{{timestamp:unit=MM}}-{{topic}}x{{partition}}-{{start_offset}}", True),
    ("p{{partition:padding=true}}{{start_offset:padding=true}}-{{topic}}/{{topic}}", False),
]


@given(st.sampled_from(TEMPLATES), st.sampled_from(["", "logs/", "logs/x-"]), st.data())
def test_files_of_aiven_come_back(template, prefix, data):
    """A3: whatever the template, in whatever order; below the folder that is listed."""
    names, time = AivenNames(template[0], prefix), data.draw(TIMES)
    times = (
        ("year", "yyyy", f"{time.year:04d}"),
        ("month", "MM", f"{time.month:02d}"),
        ("day", "dd", f"{time.day:02d}"),
    )
    shown = tuple((name, text) for name, unit, text in times if f"unit={unit}" in template[0])
    file = AivenFile(topic=data.draw(TOPICS), partition=data.draw(PARTITIONS), start=data.draw(OFFSETS), times=shown)
    path = names.path(file)
    assert names.parse(file.topic, path) == file
    folder = names.folder(file.topic)
    assert not folder or path.startswith(f"{folder}/")
    assert names.by_time == template[1]


@pytest.mark.parametrize(
    ("topic", "path"), [("a-1", "a-1-0-5"), ("a-1-2", "a-1-2-0-5"), ("1", "1-0-5"), ("a", "a-0-5")]
)
def test_an_unknown_topic_is_found_from_the_right(topic, path):
    """A3: topics hold hyphens, numbers do not."""
    assert AivenNames().parse(None, path) == AivenFile(topic=topic, partition=0, start=5)


@pytest.mark.parametrize(
    ("template", "match"),
    [
        ("{{key}}", "by key"),
        ("{{topic}}/{{partition}}/{{key}}-{{start_offset}}", "by key"),
        ("{{topic}}-{{partition}}", "start_offset"),
        ("{{topic}}-{{start_offset}}", "partition"),
        ("{{partition}}-{{start_offset}}", "topic"),
        ("{{topic}}-{{partition}}{{start_offset}}", "nothing between"),
        ("{{topic}}-{{partition}}0{{start_offset}}", "between numbers"),
        ("{{topic}}-{{partition}}-{{start_offset}}-{{nonce}}", "nonce"),
        ("{{topic}}-{{partition}}-{{start_offset}}-{{timestamp:unit=ww}}", "unit=ww"),
        ("{{topic}}-{{partition:pad=true}}-{{start_offset}}", "pad=true"),
    ],
)
def test_templates_that_lose_what_is_needed_are_refused(template, match):
    """A3: compacting ones above all: each file is the newest record of a key, not a log."""
    with pytest.raises(ConfigError, match=match):
        AivenNames(template)
