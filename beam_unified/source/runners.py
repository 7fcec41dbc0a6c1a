"""What the package knows about runners when a pipeline is built: what cannot work is refused, what loses data is said."""

import logging
import sys

from apache_beam.options.pipeline_options import DebugOptions, PipelineOptions
from apache_beam.pipeline import AppliedPTransform, Pipeline, PipelineVisitor
from apache_beam.runners.direct.direct_runner import BundleBasedDirectRunner, SwitchingDirectRunner
from apache_beam.runners.portability.portable_runner import PortableRunner
from apache_beam.runners.portability.prism_runner import PrismRunner
from apache_beam.testing.test_stream import TestStream
from apache_beam.transforms import ParDo
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import get_dofn_specs, is_stateful_dofn

from beam_unified.errors import ConfigError

_LOGGER = logging.getLogger(__name__)

_OLD_DIRECT_RUNNER = "apache_beam.runners.direct.sdf_direct_runner"
_REASON = (
    "{what}, and with that DirectRunner falls back to its old implementation (BundleBasedDirectRunner), on which "
    "splittable DoFns such as ReadUnified do not work. Name the runner: --runner=PrismRunner, or "
    "runner='apache_beam.runners.portability.fn_api_runner.FnApiRunner'; or test with beam_unified.testing instead of TestStream."
)


def check_runner(pipeline: Pipeline) -> None:
    """Refuses what is known now to send DirectRunner to an implementation without splittable DoFns.

    Raises:
        ConfigError: a TestStream or a processing-time timer stands in the pipeline already. What is added later is
            met by `refuse_old_direct_runner`.
    """
    runner = pipeline.runner
    if isinstance(runner, BundleBasedDirectRunner):
        raise ConfigError(_REASON.format(what="this pipeline names BundleBasedDirectRunner"))
    if isinstance(runner, SwitchingDirectRunner):
        pipeline.visit(_FallbackVisitor())


def keep_prism_from_splitting(pipeline: Pipeline) -> None:
    """Tells Prism not to split what runs. Call it for every pipeline; other runners do not look at the experiment.

    When a bundle makes no progress for about 200 ms, Prism 2.77 asks for a split. Its Python worker then often fails with
    "cannot convert float NaN to integer" (a byte counter that was reset between bundles); and where it does split, it
    takes whole elements, here partitions, out of the bundle and forgets their hold on the output watermark, so that their
    records come late. Both are gone without such splits, which an ordered log has no use for. `DirectRunner` is Prism
    wherever it can be downloaded.
    """
    if isinstance(pipeline.runner, PortableRunner | SwitchingDirectRunner):
        pipeline.options.view_as(DebugOptions).add_experiment("prism_disable_sdf_split")


def needs_one_watermark(pipeline: Pipeline) -> bool:
    """Whether the runner may forget the hold of a single partition: Prism, and DirectRunner, which may be Prism."""
    return isinstance(pipeline.runner, PrismRunner | SwitchingDirectRunner)


def refuse_old_direct_runner() -> None:
    """Called when Beam asks for the restriction coder: raises ConfigError if the old DirectRunner is asking.

    DirectRunner chooses its implementation in `run()`, after every transform has been built. This question, which that
    implementation asks while it still rewrites the pipeline, is the first moment at which its choice shows.
    """
    frame = sys._getframe(1)  # noqa: SLF001 - the one way to see who asks
    while frame is not None:
        if frame.f_globals.get("__name__") == _OLD_DIRECT_RUNNER:
            raise ConfigError(_REASON.format(what="this pipeline holds a TestStream or a processing-time timer"))
        frame = frame.f_back  # type: ignore[assignment]  # None ends the loop


def warn_of_late_loss(options: PipelineOptions) -> None:
    """Says when a Flink job with checkpoints lacks the option without which it can drop records as late (T4)."""
    given = options.get_all_options(drop_default=True, retain_unknown_options=True)
    if given.get("checkpointing_interval") and not given.get("finish_bundle_before_checkpointing"):
        _LOGGER.warning(
            "checkpointing_interval is set without --finish_bundle_before_checkpointing: Flink then buffers the output "
            "of a bundle that a checkpoint closes and lets the watermark pass it, and stages behind a stateful one can "
            "drop those records as late. Add --finish_bundle_before_checkpointing."
        )


class _FallbackVisitor(PipelineVisitor):
    """Finds what makes DirectRunner fall back."""

    def visit_transform(self, transform_node: AppliedPTransform) -> None:
        """One applied transform."""
        transform = transform_node.transform
        if isinstance(transform, TestStream):
            raise ConfigError(_REASON.format(what=f"{transform_node.full_label!r} is a TestStream"))
        if isinstance(transform, ParDo) and is_stateful_dofn(transform.dofn):
            _, timers = get_dofn_specs(transform.dofn)
            if any(timer.time_domain == TimeDomain.REAL_TIME for timer in timers):
                raise ConfigError(_REASON.format(what=f"{transform_node.full_label!r} sets a processing-time timer"))
