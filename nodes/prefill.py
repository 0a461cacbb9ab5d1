"""The plan of the Preset node before anything is queued: what a browser fills the widgets with.

``prefill`` reads the folder the graph names and answers with the plan, the same numbers that the
node computes when it runs, and the message to show.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..trustopt.config import AdapterConfig, OptimizerConfig
from ..trustopt.data import ImageSet, folder_stamp, scan_folder
from ..trustopt.plan import (
    FAMILIES,
    VALUES,
    Phrase,
    TrainPlan,
    lora_file_bytes,
    say,
    toast_text,
)
from ..trustopt.train.plan_images import plan_images
from ..trustopt.train.plan_job import adapter_of, resolve
from .job import with_wishes
from .languages import table_of
from .model_file import ModelFile, find_model, lora_parameters, tiny_model
from .places import resolve_image_folder
from .preset import ELSEWHERE
from .timing import seconds_per_step
from .widgets import chosen


@dataclass(frozen=True, kw_only=True)
class Query:
    """What the graph says: values of widgets, where ``-1`` and ``auto`` are automatic."""

    folder: str
    """As the Load Image Set node lists it."""
    caption_extension: str = ".txt"
    repeats: int = 1
    family: str = "auto"
    purpose: str = "character"
    overrides: Mapping[str, Any] = field(default_factory=dict)
    """Widgets of the Preset node that the user set."""
    model: str = ""
    """File of the node that loads MODEL, or ``tiny-sdxl`` and ``tiny-flux``; empty if unknown."""
    optimizer: str = ""
    """Of the trainer that takes the plan; empty shows the plan as it is."""
    lr: float = -1.0
    """Set on the optimizer node."""
    adapter: Mapping[str, Any] = field(default_factory=dict)
    """Widgets of the Adapter node that the user set."""
    save_dtype: str = "auto"
    language: str = "en"
    """Of the message."""


def prefill(query: Query) -> dict[str, Any]:
    """Return the plan of a folder: values for the widgets, and the message.

    Raises:
        ValueError: If there is no plan; the message is for the user.
    """
    images = read_folder(query)
    model = model_of(query.model)
    plan = plan_of(query, images, model)
    return {
        "values": widget_values(plan),
        "overridden": sorted(plan.overridden),
        "num_images": plan.num_images,
        "warnings": list(plan.warnings),
        "toast": message(query, plan, images, model),
    }


def plan_of(query: Query, images: ImageSet, model: ModelFile | None) -> TrainPlan:
    """Return the plan that the Preset node will make.

    Raises:
        ValueError: If the family is not known, or a value not allowed.
    """
    return plan_images(
        images,
        family=family_of(query, model),
        purpose=query.purpose,
        overrides=chosen(query.overrides),
    )


def widget_values(plan: TrainPlan) -> dict[str, Any]:
    """Return the plan's values as the Preset node's widgets show them."""
    values = {name: getattr(plan, name) for name in VALUES if name not in ELSEWHERE}
    return {
        name: ("on" if value else "off") if isinstance(value, bool) else value
        for name, value in values.items()
    }


def read_folder(query: Query) -> ImageSet:
    """Return the image set that the Load Image Set node would make.

    Raises:
        ValueError: If the folder leaves ``input/``, is missing or holds no usable picture.
    """
    folder = resolve_image_folder(query.folder)
    return _scan(folder, folder_stamp(folder), query.caption_extension, query.repeats)


@lru_cache(maxsize=16)
def _scan(folder: Path, _stamp: str, caption_extension: str, repeats: int) -> ImageSet:
    """Scan a folder once until a file in it changes, which changes its stamp."""
    return scan_folder(folder, caption_extension=caption_extension, repeats=repeats)


def model_of(name: str) -> ModelFile | None:
    """Return what is known of the model the graph loads; None if nothing is."""
    if name.startswith("tiny-"):
        return tiny_model("flux" if name == "tiny-flux" else "sdxl")
    return find_model(name) if name else None


def family_of(query: Query, model: ModelFile | None) -> str:
    """Return the family chosen, or the model's.

    Raises:
        ValueError: If neither tells.
    """
    if query.family != "auto":
        return query.family
    if model is not None:
        return model.family
    families = ", ".join(FAMILIES)
    if query.model:
        raise ValueError(
            Phrase(
                "family is auto and {model} tells no family: connect MODEL of another loader to "
                "the preset, or choose one of {families}",
                model=query.model,
                families=families,
            )
        )
    raise ValueError(
        Phrase(
            "family is auto and no model is connected: connect MODEL of a loader to the preset, "
            "or choose one of {families}",
            families=families,
        )
    )


def message(query: Query, plan: TrainPlan, images: ImageSet, model: ModelFile | None) -> str:
    """Return the toast: the plan as its optimizer will run it, and what the folder lacked."""
    table = table_of(query.language)
    adapter = with_wishes(adapter_of(plan), adapter_wishes(query.adapter))
    optimizer = OptimizerConfig(name=query.optimizer, lr=query.lr if query.lr > 0 else None)
    text = toast_text(
        plan,
        resolve(plan, optimizer) if query.optimizer else None,
        file_bytes=file_bytes(model, adapter, query.save_dtype),
        seconds_per_step=seconds_per_step(model.name, plan) if model else None,
        table=table,
    )
    notes = []
    if query.adapter:
        note = Phrase(
            "Adapter node: {algorithm}, rank/alpha {rank}/{alpha}",
            algorithm=adapter.algorithm,
            rank=adapter.rank,
            alpha=f"{adapter.alpha:g}",
        )
        notes.append(f"• {say(note, table)}")
    if images.skipped:
        note = Phrase(
            "{number} files skipped, such as {file}: {reason}",
            number=len(images.skipped),
            file=images.skipped[0].file,
            reason=images.skipped[0].text,
        )
        notes.append(f"⚠ {say(note, table)}")
    return "\n".join([text, *notes])


def adapter_wishes(widgets: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of ``AdapterConfig`` that matter for a LoRA's size."""
    known = {"algorithm", "rank", "alpha", "targets", "conv_rank", "train_text_encoders"}
    return {name: value for name, value in chosen(widgets).items() if name in known}


def file_bytes(model: ModelFile | None, adapter: AdapterConfig, save_dtype: str) -> int | None:
    """Return the size of the LoRA file to come; None where it cannot be told beforehand."""
    number = lora_parameters(model, adapter) if model is not None else None
    if model is None or number is None:
        return None
    is_fp32 = save_dtype == "auto" and model.name.startswith("tiny-")  # that model runs in fp32
    dtype = "fp16" if save_dtype == "auto" else save_dtype
    return lora_file_bytes(number, "fp32" if is_fp32 else dtype)
