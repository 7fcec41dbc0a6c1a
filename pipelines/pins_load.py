"""A synthetic load of published pins and views of them, and what a batch join makes of it."""

import json
import random
import zlib
from typing import NamedTuple

from beam_unified import TopicPartition
from beam_unified.testing import InMemoryLog, InMemoryTopics

PINS, VIEWS = "published_pins", "pin_views"
PARTITIONS = {PINS: 1, VIEWS: 4}


class Event(NamedTuple):
    """A record of the load. Times in milliseconds."""

    pin: str
    at_ms: int

    @property
    def value(self) -> bytes:
        """As produced."""
        return json.dumps({"pin": self.pin, "at": self.at_ms}).encode()


def load(launch_ms: int, *, pins: int = 300, views: int = 20_000, seed: int = 1) -> dict[str, list[Event]]:
    """Six hours before `launch_ms`, and ten minutes behind it. A tenth of the views is of pins that nobody published."""
    chosen, start, step = random.Random(seed), launch_ms - 6 * 3_600_000, 6 * 3_600_000 // pins  # noqa: S311 - a load
    published = [Event(f"pin-{n}", start + n * step) for n in range(pins)]
    seen = []
    for at in sorted(chosen.randrange(start, launch_ms) for _ in range(views)):
        age = int(chosen.expovariate(1 / 1_200_000))  # a pin is viewed for some twenty minutes
        newest = max(0, (at - age - start) // step)
        seen.append(Event(f"gone-{newest}" if chosen.random() < 0.1 else f"pin-{newest}", at))
    tail = [Event(f"pin-{pins + n}", launch_ms + n * 60_000) for n in range(10)]
    return {PINS: [*published, *tail], VIEWS: [*seen, *(Event(pin, at + 1_000) for pin, at in tail)]}


def batch_ratio(events: dict[str, list[Event]]) -> float:
    """Of all views, those whose pin was published before: what a batch join finds."""
    published = dict(events[PINS])
    return sum(published.get(pin, at + 1) <= at for pin, at in events[VIEWS]) / len(events[VIEWS])


def in_memory(events: dict[str, list[Event]], launch_ms: int) -> InMemoryTopics:
    """The load as two topics: history in the archive, which Kafka has forgotten, the tail in Kafka."""
    logs = [InMemoryLog(topic, partitions=count) for topic, count in PARTITIONS.items()]
    for log in logs:
        count, archived = PARTITIONS[log.topic], {}
        for event in events[log.topic]:
            partition = zlib.crc32(event.pin.encode()) % count
            offset = log.append(partition, event.value, timestamp=event.at_ms)
            if event.at_ms < launch_ms:
                archived[partition] = offset + 1
        for partition, end in archived.items():
            log.flush(partition, stop=end)
            log.expire(partition, end)
    return InMemoryTopics(*logs)


def ends(topics: InMemoryTopics) -> dict[str, dict[int, int]]:
    """Where the load ends."""
    return {
        topic: {n: topics.kafka.bounds(TopicPartition(topic, n)).stop for n in range(count)}
        for topic, count in PARTITIONS.items()
    }
