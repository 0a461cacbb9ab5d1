"""The message shown when a preset is applied."""

from collections.abc import Callable

from .phrases import ENGLISH, Phrase, Table, say
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
    processes: int = 1,
    table: Table = ENGLISH,
) -> str:
    """Return the message shown when a preset is applied, several lines; ``*`` marks the user's.

    Args:
        plan: The plan.
        resolved: What the optimizer makes of it; None shows the plan as it is.
        file_bytes: Estimated size of the LoRA file.
        seconds_per_step: Measured time of a step.
        processes: Processes that train side by side, each with the plan's batches.
        table: Of the user's language.
    """
    run = resolved or plan
    figures = _figures(plan, run, processes)
    if file_bytes is not None:
        figures.append(Phrase("File: about {size} MB", size=short(file_bytes / 1e6)))
    if seconds_per_step is not None:
        figures.append(Phrase("Time: about {time}", time=duration(run.steps * seconds_per_step)))
    figures += resolved.notes if resolved else ()
    lines = [
        say(_title(plan), table),
        *(f"• {say(figure, table)}" for figure in figures),
        *(f"⚠ {say(warning, table)}" for warning in plan.warnings),
    ]
    return "\n".join([*lines, say(Phrase("* set by you"), table)] if plan.overridden else lines)


def _title(plan: TrainPlan) -> str:
    return Phrase(
        "Preset {preset} ({label}) applied for {images} images ({family} {purpose}):",
        preset=plan.preset,
        label=plan.label,
        images=plan.num_images,
        family=plan.family.upper(),
        purpose=plan.purpose,
    )


def _figures(plan: TrainPlan, run: ResolvedPlan | TrainPlan, processes: int) -> list[str]:
    """Return what the plan comes to, a line each."""

    def mark(name: str) -> str:
        return " *" if name in plan.overridden else ""

    warmup = Phrase("{steps} steps", steps=run.warmup_steps) if run.warmup_steps else Phrase("none")
    lines: list[str] = [
        Phrase(
            "{steps} steps{mark} ({per_image} steps per image)",
            steps=run.steps,
            mark=mark("steps"),
            per_image=short(run.steps / plan.num_images),
        ),
        Phrase(
            "LR: {lr} ({scheduler} scheduler{mark})",
            lr=scientific(run.lr) + mark("lr"),
            scheduler=run.scheduler,
            mark=mark("scheduler"),
        ),
        Phrase(
            "Rank/Alpha: {rank}/{alpha}",
            rank=f"{plan.rank}{mark('rank')}",
            alpha=f"{plan.alpha:g}{mark('alpha')}",
        ),
        Phrase(
            "Repeats: {repeats}, Epochs: {epochs}, Warmup: {warmup}{mark}",
            repeats=f"{plan.repeats}{mark('repeats')}",
            epochs=f"{run.epochs * processes}{mark('epochs')}",
            warmup=warmup,
            mark=mark("warmup_steps"),
        ),
    ]
    if plan.batch_size * plan.accumulation * processes > 1:
        lines.append(_batch(plan, run, processes, mark))
    return lines


def _batch(
    plan: TrainPlan, run: ResolvedPlan | TrainPlan, processes: int, mark: Callable[[str], str]
) -> str:
    """Return how many pictures a step takes, and how often each comes round."""
    images = plan.batch_size * plan.accumulation * processes
    values = {
        "batch_size": f"{plan.batch_size}{mark('batch_size')}",
        "accumulation": f"{plan.accumulation}{mark('accumulation')}",
        "times": short(run.steps * images / plan.num_images),
    }
    if processes == 1:
        return Phrase(
            "Batch: {batch_size} x accumulation {accumulation}: each image is seen {times} times",
            **values,
        )
    return Phrase(
        "Batch: {batch_size} x accumulation {accumulation} x {processes} processes, "
        "{images} images a step: each image is seen {times} times",
        **values,
        processes=processes,
        images=images,
    )
