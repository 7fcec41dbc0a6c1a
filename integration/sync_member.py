"""A worker process of a sync group, with one reader: `python -m integration.sync_member '{"servers": ..., ...}'`.

Started by tests, which read what it prints: a line of JSON whenever it has read something, or is held for another reason.
"""

import json
import os
import sys
import threading
from typing import Any

from beam_unified import Kafka, TopicPartition
from beam_unified.clock import SYSTEM_CLOCK
from beam_unified.kafka.sync_topic import KafkaSyncTopic
from beam_unified.sync.options import SyncGroup
from beam_unified.sync.reports import RateLimit
from beam_unified.sync.synchronizer import Synchronizer
from tests.sync_world import Reader


def group_of(servers: str, run_id: str, topics: list[str], **options: Any) -> SyncGroup:
    """The group, the same in every process."""
    coordinator = KafkaSyncTopic(kafka=Kafka(servers))
    return SyncGroup("processes", topics, run_id=run_id, coordinator=coordinator, **options)


def main() -> None:
    """Reads until it is killed."""
    said: dict[str, Any] = json.loads(sys.argv[1])
    group = group_of(said["servers"], said["run_id"], said["topics"], **said.get("options", {}))
    limit = RateLimit(**said["limit"]) if "limit" in said else None
    rules = group.rules([said["topic"]], wait_for=said.get("wait_for"), limit=limit)
    member = TopicPartition(said["topic"], said["partition"])
    reader = Reader(member, rules, partitions=said["partitions"], batch=said["batch"])
    synchronizer, last, never = Synchronizer(group), None, threading.Event()
    while True:
        records = reader.take_turn(synchronizer)
        seen = {"hold": reader.turn.hold and reader.turn.hold.value, "watermark": reader.watermark}
        if records or seen != last:
            print(json.dumps({**seen, "records": records, "at": SYSTEM_CLOCK.now_ms(), "pid": os.getpid()}), flush=True)
            last = seen
        never.wait(0.02)


if __name__ == "__main__":
    main()
