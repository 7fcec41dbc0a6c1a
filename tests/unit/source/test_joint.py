"""One watermark for all partitions of a process, for runners that would forget some of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_unified.source import joint
from beam_unified.source.joint import JointWatermark
from beam_unified.source.watermark import LogWatermarkEstimator
from beam_unified.watermarks import WatermarkState

MEMBERS = st.sampled_from("abc")
MICROS = st.none() | st.integers(-3, 9)
STEPS = st.tuples(st.sampled_from(["expect", "report"]), MEMBERS, MICROS) | st.tuples(
    st.just("leave"), MEMBERS, st.none()
)


@pytest.mark.rule("T1")
@given(st.lists(STEPS, max_size=12))
def test_nobody_is_passed_and_nothing_goes_back(steps):
    """At every moment the minimum of all members, or, where it would have to go back, what was reported before."""
    watermark = JointWatermark()
    reported: int | None = None
    members: dict[str, int | None] = {}
    for what, member, micros in steps:
        if what == "leave":
            watermark.leave(member)
            members.pop(member, None)
        elif what == "expect":
            watermark.expect(member, micros)
            members.setdefault(member, micros)
        else:
            watermark.report(member, micros)
            members[member] = micros
            known = [each for each in members.values() if each is not None]
            if len(known) == len(members):
                reported = min(known) if reported is None else max(reported, min(known))
            assert watermark.earliest(micros) == reported


@pytest.mark.rule("T1")
def test_an_estimator_reports_the_earliest_of_all_until_they_are_done():
    """What Prism keeps of the bundle that ends last is then right for the partitions of all bundles."""
    watermark = JointWatermark()
    ahead, behind = LogWatermarkEstimator(WatermarkState()), LogWatermarkEstimator(WatermarkState())
    for estimator, micros in ((ahead, 9_000), (behind, 2_000)):
        estimator.emitted(micros, 0)
    ahead.start_call(watermark, "ahead")
    behind.start_call(watermark, "behind")
    assert [estimator.current_watermark().micros for estimator in (ahead, behind)] == [2_000, 2_000]
    assert ahead.get_estimator_state().reported == 9_000
    behind.end()
    assert ahead.current_watermark().micros == 9_000


@pytest.mark.rule("T1")
def test_without_one_an_estimator_reports_its_own():
    """On every other runner."""
    estimator = LogWatermarkEstimator(WatermarkState(reported=5_000))
    estimator.start_call()
    assert estimator.current_watermark().micros == 5_000
    estimator.end()


def test_a_job_that_begins_does_not_go_on_from_the_last_one():
    """A pipeline object may be run twice in one process."""
    first = joint.begin("key")
    assert joint.joint_watermark("key") is first
    assert joint.begin("key") is not first
