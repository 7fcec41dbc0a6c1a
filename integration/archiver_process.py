"""One archiver of one partition, for a process of its own that kills itself (SIGKILL) at a step. Started by test_archiver."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

from beam_unified import Archive, Kafka, KafkaCommitTopic, TopicPartition
from beam_unified.archive.storage import Storage
from beam_unified.archiver.archiver import ArchiverRules, PartitionArchiver
from beam_unified.archiver.planning import FlushLimits
from beam_unified.clock import SYSTEM_CLOCK


class DyingStorage(Storage):
    """Dies within an upload: half of the file is sent, under another name or in a request that does not end."""

    dies_in_upload = False

    def put_file(self, local: str, path: str) -> None:
        """Half of the file is written where an unfinished upload would be, then the process is gone."""
        if self.dies_in_upload:
            file = Path(local)
            with self._files.open(self._hidden(self._absolute(path)), "wb") as target:
                target.write(file.read_bytes()[: file.stat().st_size // 2])
                target.flush()
                os.kill(os.getpid(), signal.SIGKILL)
        super().put_file(local, path)


def main(arguments: dict[str, object]) -> None:
    """Archives up to `stop`, or dies before the `die_at`-th request called `die_before`."""
    archive = Archive(str(arguments["root"]), arguments["storage_options"])  # type: ignore[arg-type]
    kafka = Kafka(str(arguments["servers"]))
    storage = DyingStorage(archive.root, archive.storage_options)
    stop, first = int(arguments["stop"]), 0  # type: ignore[call-overload]
    die_before, left = str(arguments["die_before"]), int(arguments["die_at"])  # type: ignore[call-overload]
    one = PartitionArchiver(
        TopicPartition(str(arguments["topic"]), int(arguments["partition"])),  # type: ignore[call-overload]
        storage,
        kafka.connect(),
        announcer=KafkaCommitTopic(kafka=kafka, topic=str(arguments["commits"])).connect(),
        rules=ArchiverRules(limits=FlushLimits(records=int(arguments["records"]))),  # type: ignore[call-overload]
        clock=SYSTEM_CLOCK,
        first=first,
    )

    def met(step: str) -> None:
        nonlocal left
        if step == die_before:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        if die_before == "within an upload" and step == "upload a part":
            left -= 1
            storage.dies_in_upload = left == 0

    drive(one, stop, met)
    one.close()


def drive(one: PartitionArchiver, stop: int, met: Callable[[str], None] = lambda _: None) -> None:
    """To the stop."""
    while not one.done(stop):
        for step in one.job(stop) or ():
            met(step)
        if not one.wants_job(stop) and not one.done(stop):
            one.read(stop, timeout_ms=200)
            met("after poll")
