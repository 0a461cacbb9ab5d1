"""From a plan and the user's choices to a job: the one place both faces build jobs."""

from dataclasses import replace
from typing import Any

from ..config import AdapterConfig, DataConfig, JobConfig, ObjectiveConfig, OptimizerConfig
from ..optim import OptimizerSpec, find_optimizer
from ..plan import ResolvedPlan, SchedulePolicy, TrainPlan, resolve_for_optimizer

AUTOTRUSTGO_LR = {
    "style": (1e-4, 2e-4),
    "character": (0.8e-4, 1.5e-4),
    "concept": (0.8e-4, 1.5e-4),
    "photoreal": (0.5e-4, 1e-4),
}
"""Its author's learning rates by purpose (szxex, AutoTrustGO's document)."""


def resolve(plan: TrainPlan, optimizer: OptimizerConfig) -> ResolvedPlan:
    """Let the chosen optimizer adjust the plan, never what the user set.

    Raises:
        ValueError: If the optimizer is unknown; the message lists the known ones.
    """
    spec = find_optimizer(optimizer.name)
    policy: SchedulePolicy = "planned" if spec.schedule_policy == "as planned" else "constant"
    if spec.family == "autotrustgo":
        policy = "constant_only"
    return resolve_for_optimizer(
        plan,
        optimizer=spec.label,
        schedule_policy=policy,
        lr_factor=spec.lr_factor,
        steps_factor=spec.steps_factor,
        # Emo's authors name starting points, but a planned lr is as good a start for it.
        suggested_lr=None if spec.family == "emo" else spec.suggested_lr,
        lr_range_by_purpose=AUTOTRUSTGO_LR if spec.family == "autotrustgo" else None,
        lr=optimizer.lr,
    )


def job_from_plan(
    plan: TrainPlan,
    optimizer: OptimizerConfig,
    *,
    name: str,
    seed: int = 0,
    adapter: AdapterConfig | None = None,
    objective: ObjectiveConfig | None = None,
    data: DataConfig | None = None,
    **settings: Any,
) -> JobConfig:
    """Build the job a plan describes.

    Args:
        plan: The preset with the user's values in it.
        optimizer: The user's choice; what it leaves blank comes from the plan.
        name: Of the run and its LoRA.
        seed: Of everything random.
        adapter: Replaces what the plan says of rank, alpha and targets.
        objective: Replaces what the plan says of the loss.
        data: Replaces what the plan says of pictures and captions.
        settings: Further fields of ``JobConfig``.

    Raises:
        ValueError: If a value is out of range or unknown.
    """
    resolved = resolve(plan, optimizer)
    return JobConfig(
        name=name,
        seed=seed,
        steps=resolved.steps,
        lr=resolved.lr,
        scheduler=resolved.scheduler,  # type: ignore[arg-type]
        warmup_steps=resolved.warmup_steps,
        batch_size=plan.batch_size,
        accumulation=plan.accumulation,
        repeats=plan.repeats,
        **{"save_every": plan.save_every, "sample_every": plan.sample_every, **settings},
        data=data or data_of(plan),
        objective=objective or objective_of(plan),
        adapter=adapter or adapter_of(plan),
        optimizer=with_plan_options(optimizer, plan, find_optimizer(optimizer.name)),
    )


def adapter_of(plan: TrainPlan) -> AdapterConfig:
    """Return the adapter the plan asks for."""
    return AdapterConfig(
        rank=plan.rank,
        alpha=plan.alpha,
        targets=plan.targets,  # type: ignore[arg-type]
        train_text_encoders=plan.train_text_encoders,
    )


def objective_of(plan: TrainPlan) -> ObjectiveConfig:
    """Return the objective the plan asks for; a min-SNR gamma of 0 is off."""
    weighted = plan.min_snr_gamma > 0.0
    return ObjectiveConfig(
        weighting="auto" if weighted else "none",
        timesteps=plan.timesteps,  # type: ignore[arg-type]
        **({"min_snr_gamma": plan.min_snr_gamma} if weighted else {}),
    )


def data_of(plan: TrainPlan) -> DataConfig:
    """Return how the plan wants pictures and captions handled."""
    return DataConfig(
        resolution=plan.resolution, flip=plan.flip, caption_dropout=plan.caption_dropout
    )


def with_plan_options(
    optimizer: OptimizerConfig, plan: TrainPlan, spec: OptimizerSpec
) -> OptimizerConfig:
    """Fill options the user left blank from the plan, where this optimizer has them."""
    known = {option.name for option in spec.options}
    planned = {"weight_decay": plan.weight_decay, "trust_level": plan.trust_level}
    blank = {k: v for k, v in planned.items() if k in known and k not in optimizer.options}
    return replace(optimizer, options={**blank, **optimizer.options})
