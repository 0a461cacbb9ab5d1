"""From an image set to its plan: the count and the warnings that only the pictures can tell."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..data import ImageSet
from ..plan import TrainPlan, image_set_warnings, make_plan


def plan_images(
    images: ImageSet,
    *,
    family: str,
    purpose: str = "character",
    overrides: Mapping[str, Any] | None = None,
) -> TrainPlan:
    """Choose the preset for an image set, put the user's values in, and warn of its faults.

    Args:
        images: The pictures; regularisation pictures do not count.
        family: ``sdxl`` or ``flux``.
        purpose: One of ``trustopt.plan.PURPOSES``.
        overrides: The user's values by name; None is automatic.

    Raises:
        ValueError: As ``make_plan`` does.
    """
    samples = [sample for sample in images.samples if not sample.is_regularisation]
    skipped = f" ({len(images.skipped)} files skipped)" if images.skipped else ""
    plan = make_plan(
        len(samples),
        family=family,
        purpose=purpose,
        overrides=overrides,
        num_samples=sum(sample.repeats for sample in samples),
        origin=images.name + skipped,
    )
    warnings = image_set_warnings(
        len(samples),
        purpose=purpose,
        missing_captions=sum(not sample.caption for sample in samples),
        num_sizes=len({(sample.width, sample.height) for sample in samples}),
        num_small=sum(s.width * s.height < plan.resolution**2 for s in samples),
    )
    return replace(plan, warnings=warnings)
