"""The message shown when a preset is applied."""

from .resolve import ResolvedPlan
from .train_plan import TrainPlan
from .wording import duration, scientific, short

_DTYPE_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2, "fp8": 1}


def lora_file_bytes(num_parameters: int, dtype: str = "bf16") -> int:
    """Return the size of a LoRA file's weights in bytes; its header adds a few hundred kB at most.

    Args:
        num_parameters: Trained parameters of the adapter on its real layers.
        dtype: ``fp32``, ``bf16``, ``fp16`` or ``fp8``.

    Raises:
        ValueError: If the dtype is unknown.
    """
    if dtype not in _DTYPE_BYTES:
        raise ValueError(f"dtype must be one of {', '.join(_DTYPE_BYTES)}, got {dtype!r}")
    return num_parameters * _DTYPE_BYTES[dtype]


def toast_text(
    plan: TrainPlan,
    resolved: ResolvedPlan | None = None,
    *,
    file_bytes: int | None = None,
    seconds_per_step: float | None = None,
) -> str:
    """Return the message shown when a preset is applied, several lines; ``*`` marks the user's.

    Args:
        plan: The plan.
        resolved: What the optimizer makes of it; None shows the plan as it is.
        file_bytes: Estimated size of the LoRA file.
        seconds_per_step: Measured time of a step.
    """
    run = resolved or plan

    def mark(*names: str) -> str:
        return "" if plan.overridden.isdisjoint(names) else " *"

    images_per_step = plan.batch_size * plan.accumulation
    per_image = short(run.steps / plan.num_images)
    warmup = f"{run.warmup_steps} steps" if run.warmup_steps else "none"
    lines = [
        f"Preset {plan.preset} ({plan.label}) applied for {plan.num_images} images "
        f"({plan.family.upper()} {plan.purpose}):",
        f"• {run.steps} steps{mark('steps')} ({per_image} steps per image)",
        f"• LR: {scientific(run.lr)}{mark('lr')} ({run.scheduler} scheduler{mark('scheduler')})",
        f"• Rank/Alpha: {plan.rank}{mark('rank')}/{plan.alpha:g}{mark('alpha')}",
        f"• Repeats: {plan.repeats}{mark('repeats')}, Epochs: {run.epochs}{mark('epochs')}, "
        f"Warmup: {warmup}{mark('warmup_steps')}",
    ]
    if images_per_step > 1:
        lines.append(
            f"• Batch: {plan.batch_size}{mark('batch_size')} x accumulation "
            f"{plan.accumulation}{mark('accumulation')}: each image is seen "
            f"{short(run.steps * images_per_step / plan.num_images)} times"
        )
    if file_bytes is not None:
        lines.append(f"• File: about {short(file_bytes / 1e6)} MB")
    if seconds_per_step is not None:
        lines.append(f"• Time: about {duration(run.steps * seconds_per_step)}")
    lines += [f"• {note}" for note in (resolved.notes if resolved else ())]
    lines += [f"⚠ {warning}" for warning in plan.warnings]
    return "\n".join([*lines, "* set by you"] if plan.overridden else lines)
