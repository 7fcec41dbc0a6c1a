"""The coordinator of one process obeys the contract of all coordinators."""

import pytest

from beam_unified.sync.coordinator import InProcess
from tests.contracts.coordinator import CoordinatorContract


class TestInProcess(CoordinatorContract):
    """The log in memory."""

    @pytest.fixture
    def source(self):
        return InProcess()
