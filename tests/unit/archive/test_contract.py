"""The contract of every archive half, over layout A1 on file systems that need no service."""

import pytest

from beam_unified.archive.archive import Archive
from beam_unified.archive.writer import write_flush
from beam_unified.offsets import TopicPartition
from tests.contracts.archive_log import ArchiveLogContract


class World:
    topic = "pins"

    def __init__(self, root):
        self.source = Archive(root)
        self.missing = Archive(f"{root}-nothing-here")

    def write_flush(self, records, start, stop, partition=0):
        write_flush(self.source, TopicPartition(self.topic, partition), records, start=start, stop=stop)


class TestArchive(ArchiveLogContract):
    """Layout A1 in a folder and in memory."""

    @pytest.fixture
    def world(self, root):
        return World(root)
