"""From what the trainer node is given to the engine's job."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..trustopt.config import AdapterConfig, JobConfig, OptimizerConfig
from ..trustopt.plan import TrainPlan
from ..trustopt.train.plan_job import adapter_of, data_of, job_from_plan, objective_of
from .objective import ObjectiveChoice


def build_job(
    plan: TrainPlan,
    optimizer: OptimizerConfig,
    adapter: Mapping[str, Any] | None,
    objective: ObjectiveChoice | None,
    *,
    name: str,
    seed: int,
    validation_fraction: float = 0.0,
    **settings: Any,
) -> JobConfig:
    """Return the job: the plan, and over it what the user set on the nodes.

    Args:
        plan: Of the preset node.
        optimizer: Of the optimizer node.
        adapter: Fields of ``AdapterConfig`` that the user set.
        objective: Fields of ``ObjectiveConfig`` and ``DataConfig`` that the user set.
        name: Of the LoRA file.
        seed: Of everything random.
        validation_fraction: Share of the pictures held out.
        settings: Further fields of ``JobConfig``.

    Raises:
        ValueError: If a value is out of range or does not fit the plan's family.
    """
    wishes = objective or ObjectiveChoice()
    data = replace(data_of(plan), validation_fraction=validation_fraction)
    return job_from_plan(
        plan,
        optimizer,
        name=name,
        seed=seed,
        adapter=with_wishes(adapter_of(plan), adapter or {}),
        objective=replace(objective_of(plan), **wishes.objective),
        data=replace(data, **wishes.data),
        **settings,
    )


def with_wishes(planned: AdapterConfig, wishes: Mapping[str, Any]) -> AdapterConfig:
    """Return the planned adapter with the user's values; alpha follows the rank unless set."""
    followed = {}
    if "rank" in wishes:
        followed["alpha"] = wishes["rank"] * planned.alpha / planned.rank
    return replace(planned, **{**followed, **wishes})
