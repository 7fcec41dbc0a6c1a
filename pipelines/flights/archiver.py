"""The package's archiver without Beam, one for each partition, driven by hand: a month is archived when it has been written."""

from beam_unified import Archive, Kafka, TopicPartition
from beam_unified.archiver.archiver import ArchiverRules, Nobody, PartitionArchiver, archive_until
from beam_unified.clock import SYSTEM_CLOCK


class Archiver:
    """Follows a topic, from its beginning.

    Attributes:
        archived: Per partition the offset at which the archive ends (exclusive).
    """

    def __init__(self, topic: str, kafka: Kafka, archive: Archive) -> None:
        """Connects."""
        self._log = kafka.connect()
        self._partitions = {
            partition: PartitionArchiver(
                TopicPartition(topic, partition),
                archive.storage(),
                kafka.connect(),
                announcer=Nobody(),
                rules=ArchiverRules(),
                clock=SYSTEM_CLOCK,
                first=0,
            )
            for partition in self._log.partitions(topic)
        }
        self._topic = topic
        self.archived = dict.fromkeys(self._partitions, 0)

    def run_once(self) -> None:
        """Archives everything that is in Kafka now."""
        for partition, archiver in self._partitions.items():
            stop = self._log.bounds(TopicPartition(self._topic, partition)).stop
            archive_until(archiver, stop)
            self.archived[partition] = stop

    def close(self) -> None:
        """Disconnects."""
        for archiver in self._partitions.values():
            archiver.close()
        self._log.close()
