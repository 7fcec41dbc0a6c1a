"""Bytes of what travels through a topic of Kafka. Pure. Compact JSON, so that people can read the topic with any tool.

Key: [version, group, run, "report", topic, partition] or [version, group, run, "limit", topic]: whatever is about the same
has the same key, and a compacted topic keeps the newest. Value: an object; a tombstone forgets the subject.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from beam_unified.offsets import TopicPartition
from beam_unified.sync.reports import Entry, LimitChange, Phase, RateLimit, Report

_VERSION = 1
_FORGET_RUNS_AFTER_MS = 7 * 86_400_000
_REPORT, _LIMIT = "report", "limit"


def run_prefix(group: str, run_id: str) -> bytes:
    """How every key of a run begins, and no key of another one."""
    return _compact([_VERSION, group, run_id])[:-1] + b","


def run_of(key: bytes) -> tuple[str, str] | None:
    """(group, run) of a key; None for what this version did not write."""
    try:
        version, group, run_id, *_ = json.loads(key)
    except (ValueError, TypeError):
        return None
    return (group, run_id) if version == _VERSION else None


def encode(group: str, run_id: str, entry: Entry) -> tuple[bytes, bytes]:
    """Key and value."""
    run = [_VERSION, group, run_id]
    if isinstance(entry, LimitChange):
        limit = {"records_per_s": entry.limit.records_per_s, "bytes_per_s": entry.limit.bytes_per_s}
        return _compact([*run, _LIMIT, entry.topic]), _compact(limit)
    value = {
        "watermark": entry.watermark,
        "position": entry.position,
        "phase": entry.phase.value,
        "partitions": entry.partitions,
        "claim": entry.claim,
        "author": entry.author,
        "sequence": entry.sequence,
    }
    return _compact([*run, _REPORT, entry.member.topic, entry.member.partition]), _compact(value)


def decode(key: bytes, value: bytes) -> Entry | None:
    """The entry; None for a kind that this version does not know, which a newer one may write.

    Raises:
        ValueError: not what `encode` of this version writes.
    """
    _, _, _, kind, *about = json.loads(key)
    said: Any = json.loads(value)
    try:
        if kind == _LIMIT:
            (topic,) = about
            return LimitChange(topic=topic, limit=RateLimit(**said))
        if kind != _REPORT:
            return None
        return Report(member=TopicPartition(*about), **{**said, "phase": Phase(said["phase"])})
    except (TypeError, KeyError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def runs_to_forget(newest: Mapping[bytes, int], now_ms: int) -> Sequence[bytes]:
    """The keys of runs that have said nothing for long.

    Args:
        newest: Key -> timestamp of its newest message.
        now_ms: Milliseconds since the epoch.
    """
    spoke: dict[tuple[str, str], int] = {}
    for key, at_ms in newest.items():
        if run := run_of(key):
            spoke[run] = max(at_ms, spoke.get(run, at_ms))
    old = {run for run, at_ms in spoke.items() if at_ms < now_ms - _FORGET_RUNS_AFTER_MS}
    return [key for key in newest if run_of(key) in old]


def _compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
