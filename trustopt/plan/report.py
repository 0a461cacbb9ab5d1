"""What the user reads: warnings about the image set, the toast, help."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .resolve import ResolvedPlan
    from .train_plan import TrainPlan

FEW_IMAGES = 5
"""Fewer are warned about."""

MANY_IMAGES = 60
"""More are warned about: the last band of every table."""

_DTYPE_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2, "fp8": 1}


def image_set_warnings(
    num_images: int,
    *,
    purpose: str = "character",
    missing_captions: int = 0,
    missing_trigger: int = 0,
    num_sizes: int = 1,
    num_small: int = 0,
    duplicates: int = 0,
) -> tuple[str, ...]:
    """Return what the user should know about an image set, one sentence or two each.

    Args:
        num_images: Images in the set.
        purpose: One of ``PURPOSES``.
        missing_captions: Images without a caption.
        missing_trigger: Captions that lack the trigger word.
        num_sizes: Different image sizes.
        num_small: Images smaller than the training resolution.
        duplicates: Images that repeat another one's content.
    """
    curate = "Leave out the odd ones" if purpose == "style" else "Curate to the best 30-60"
    warnings = {
        f"Few images ({num_images}): they burn in early. Add different views, or compare "
        "early checkpoints": 0 < num_images < FEW_IMAGES,
        f"{num_images} images, more than {MANY_IMAGES}. {curate}": num_images > MANY_IMAGES,
        f"Without a caption: {missing_captions} of {num_images} images": missing_captions > 0,
        f"Without the trigger word: {missing_trigger} of {num_images} captions": (
            missing_trigger > 0
        ),
        caption_help(purpose): missing_captions > 0 or missing_trigger > 0,
        f"{num_sizes} image sizes: each image trains in the aspect-ratio bucket nearest "
        "to it, with its edges cropped": num_sizes > 1,
        f"Smaller than the training resolution: {num_small} of {num_images} images. Use bigger "
        "ones, or lower the resolution": num_small > 0,
        f"Duplicates: {duplicates} of {num_images} images. Remove them, or they weigh double": (
            duplicates > 0
        ),
    }
    return tuple(text for text, applies in warnings.items() if applies)


def caption_help(purpose: str = "character") -> str:
    """Return how to caption for a purpose, in a few sentences."""
    if purpose == "character":
        return (
            "Put one rare trigger word in every caption, then a few short facts of identity. "
            "Leave out scene and style, which should stay free, and most clothes and "
            "expressions, which get locked in"
        )
    if purpose == "style":
        return (
            "Put one rare trigger word in every caption, then describe what the picture shows, "
            "not how it is drawn: what no caption names is learned as the style"
        )
    return (
        "Put one rare trigger word in every caption, then describe what varies from picture to "
        "picture: what no caption names is learned with the trigger word"
    )


def overfit_help() -> str:
    """Return the signs of overfitting and what to do about them."""
    return (
        "Signs of overfitting: frozen expressions, repeated clothes or backgrounds, prompts that "
        "no longer change the picture. Remedies: take an earlier checkpoint, halve or quarter the "
        "learning rate, use fewer repeats or steps, remove outliers"
    )


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
    plan: "TrainPlan",
    resolved: "ResolvedPlan | None" = None,
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
    per_image = _short(run.steps / plan.num_images)
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
            f"{_short(run.steps * images_per_step / plan.num_images)} times"
        )
    if file_bytes is not None:
        lines.append(f"• File: about {_short(file_bytes / 1e6)} MB")
    if seconds_per_step is not None:
        lines.append(f"• Time: about {duration(run.steps * seconds_per_step)}")
    lines += [f"• {note}" for note in (resolved.notes if resolved else ())]
    lines += [f"⚠ {warning}" for warning in plan.warnings]
    return "\n".join([*lines, "* set by you"] if plan.overridden else lines)


def duration(seconds: float) -> str:
    """Return a time span to read: ``1 h 23 min``, ``56 min``, ``3 min 20 s``, ``45 s``."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    if minutes >= 10:
        return f"{minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def scientific(value: float) -> str:
    """Return a learning rate as people write it: ``2.5e-4``; ``0.01`` and above stay plain."""
    if value >= 0.01:
        return f"{value:g}"
    mantissa, exponent = f"{value:.3e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def shown(name: str, value: Any) -> str:
    """Return a plan's value to read, by its name in ``VALUES``."""
    if name == "lr":
        return scientific(value)
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else f"{value}"


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 10.0 else f"{value:.1f}"
