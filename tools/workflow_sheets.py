"""The example workflows: which nodes, connected how. ``write_workflows.py`` draws them."""

from typing import Any

from workflow_notes import (
    COMPARE_NOTE,
    CONTINUE_NOTE,
    FLUX_NOTE,
    FLUX_STYLE_NOTE,
    LOW_VRAM_NOTE,
    QUICKSTART_NOTE,
    SDXL_NOTE,
    SDXL_STYLE_NOTE,
)
from workflow_parts import (
    BLUE,
    PURPLE,
    Output,
    Sheet,
    compare,
    encode,
    flux_files,
    plan_nodes,
    sdxl_checkpoint,
    tiny_model,
    train_column,
    train_nodes,
)

TINY = {
    "purpose": "style",
    "steps": 300,
    "lr": 2e-3,
    "batch_size": 4,
    "resolution": 64,
    "targets": "full",
}
"""What the tiny model wants otherwise than a large one."""

TINY_SAMPLES = {
    "prompts": "[trigger], fox face\n[trigger], panda face",
    "every": 100,
    "steps": 20,
    "cfg": 3.0,
    "sampler_name": "euler",
    "scheduler": "normal",
}
TINY_PROMPT = "twemoji, fox face"
CHARACTER_PROMPT = "zxq person reading a book in a cafe, soft light"
STYLE_PROMPT = "zxq style, a lighthouse on a cliff, evening"
SAMPLES = {
    "character": "portrait of [trigger], soft light\n[trigger] walking through a city at night",
    "style": "[trigger], a lighthouse on a cliff, evening\n[trigger], a cat on a windowsill",
}
"""Prompts of the pictures on the way, by purpose."""


def quickstart_tiny() -> Sheet:
    """Return the first workflow: the tiny model, nothing downloaded."""
    sheet = Sheet("quickstart_tiny")
    sheet.note(QUICKSTART_NOTE)
    sources = tiny_model(sheet)
    trainer = train_nodes(
        sheet,
        sources,
        trigger_word="twemoji",
        preset=TINY,
        name="quickstart",
        samples=TINY_SAMPLES,
    )
    compare_tiny(sheet, sources, {"Before": sources["model"], "After": (trainer, "model")})
    return sheet


def compare_optimizers() -> Sheet:
    """Return two trainers that differ in the optimizer alone, drawn in one plot."""
    sheet = Sheet("compare_optimizers")
    sheet.note(COMPARE_NOTE)
    sources = tiny_model(sheet)
    inputs = {**sources, **plan_nodes(sheet, sources["model"], "twemoji", TINY)}
    first = train_column(sheet, 1300, inputs, "autotrustgo", name="with_autotrustgo")
    second = train_column(sheet, 1700, inputs, "adamw", name="with_adamw")
    sheet.add(
        "TrustOpt_SignalPreview",
        (2140, 0),
        (760, 900),
        inputs={"runs.run0": (first, "signals"), "runs.run1": (second, "signals")},
    )
    sheet.group("4 · Train twice", (1280, -80, 780, 1620), PURPLE)
    sheet.group("5 · Both in one plot", (2120, -80, 800, 1000), BLUE)
    return sheet


def continue_training() -> Sheet:
    """Return the quickstart's run, gone on with."""
    sheet = Sheet("continue_training")
    sheet.note(CONTINUE_NOTE)
    sources = tiny_model(sheet)
    trainer = train_nodes(
        sheet,
        sources,
        trigger_word="twemoji",
        preset={**TINY, "steps": 600},
        name="quickstart",
        samples=TINY_SAMPLES,
        resume=True,
    )
    compare_tiny(sheet, sources, {"Before": sources["model"], "After": (trainer, "model")})
    return sheet


def sdxl_character() -> Sheet:
    """Return the workflow that trains a character for an SDXL checkpoint."""
    return sdxl("sdxl_character", SDXL_NOTE, "character", CHARACTER_PROMPT)


def sdxl_style() -> Sheet:
    """Return the workflow that trains a style for an SDXL checkpoint."""
    return sdxl("sdxl_style", SDXL_STYLE_NOTE, "style", STYLE_PROMPT)


def sdxl_low_vram() -> Sheet:
    """Return the workflow that trains SDXL with as little memory as possible."""
    return sdxl(
        "sdxl_low_vram",
        LOW_VRAM_NOTE,
        "character",
        CHARACTER_PROMPT,
        preset={"resolution": 768, "rank": 8, "batch_size": 1},
        optimizer="emofact",
        checkpointing="on",
    )


def sdxl(
    name: str,
    note: str,
    purpose: str,
    prompt: str,
    preset: dict[str, Any] | None = None,
    **settings: Any,
) -> Sheet:
    """Return a workflow for an SDXL checkpoint."""
    sheet = Sheet(name)
    sheet.note(note)
    sources = sdxl_checkpoint(sheet)
    trainer = train_nodes(
        sheet,
        sources,
        trigger_word=trigger_of(purpose),
        preset={"purpose": purpose, **(preset or {})},
        name=f"my_{name}",
        samples={"prompts": SAMPLES[purpose]},
        **settings,
    )
    clip = (trainer, "clip")
    negative = encode(sheet, "Negative prompt", "blurry, lowres", clip, 1140)
    latent = sheet.add("EmptyLatentImage", (1740, 1320), (300, 110), width=1024, height=1024)
    compare(
        sheet,
        {"Before": sources["model"], "After": (trainer, "model")},
        {
            "positive": encode(sheet, "Prompt", prompt, clip, 960),
            "negative": negative,
            "latent_image": (latent, "LATENT"),
        },
        sources["vae"],
        steps=25,
        cfg=6.0,
        sampler_name="dpmpp_2m",
        scheduler="karras",
    )
    return sheet


def flux_character() -> Sheet:
    """Return the workflow that trains a character for FLUX.1 dev."""
    return flux("flux_character", FLUX_NOTE, "character", CHARACTER_PROMPT)


def flux_style() -> Sheet:
    """Return the workflow that trains a style for FLUX.1 dev."""
    return flux("flux_style", FLUX_STYLE_NOTE, "style", STYLE_PROMPT)


def flux(name: str, note: str, purpose: str, prompt: str) -> Sheet:
    """Return a workflow for FLUX.1 dev."""
    sheet = Sheet(name)
    sheet.note(note)
    sources = flux_files(sheet)
    trainer = train_nodes(
        sheet,
        sources,
        trigger_word=trigger_of(purpose),
        preset={"purpose": purpose},
        name=f"my_{name}",
        samples={"prompts": SAMPLES[purpose]},
    )
    text = encode(sheet, "Prompt", prompt, (trainer, "clip"), 960)
    guided = sheet.add(
        "FluxGuidance", (1740, 1140), (300, 60), inputs={"conditioning": text}, guidance=3.5
    )
    nothing = sheet.add(
        "ConditioningZeroOut", (1740, 1250), (300, 40), inputs={"conditioning": text}
    )
    latent = sheet.add("EmptySD3LatentImage", (1740, 1340), (300, 110), width=1024, height=1024)
    compare(
        sheet,
        {"Before": sources["model"], "After": (trainer, "model")},
        {
            "positive": (guided, "CONDITIONING"),
            "negative": (nothing, "CONDITIONING"),
            "latent_image": (latent, "LATENT"),
        },
        sources["vae"],
        steps=25,
        cfg=1.0,
        sampler_name="euler",
        scheduler="simple",
    )
    return sheet


def trigger_of(purpose: str) -> str:
    """Return the made-up word of a template."""
    return "zxq style" if purpose == "style" else "zxq person"


def compare_tiny(sheet: Sheet, sources: dict[str, Output], models: dict[str, Output]) -> None:
    """Sample the tiny model with each LoRA."""
    latent = sheet.add("EmptyLatentImage", (1740, 1320), (300, 110), width=64, height=64)
    compare(
        sheet,
        models,
        {
            "positive": encode(sheet, "Prompt", TINY_PROMPT, sources["clip"], 960),
            "negative": encode(sheet, "Negative prompt", "", sources["clip"], 1140),
            "latent_image": (latent, "LATENT"),
        },
        sources["vae"],
        steps=20,
        cfg=3.0,
        sampler_name="euler",
        scheduler="normal",
    )


SHEETS = (
    quickstart_tiny,
    sdxl_character,
    sdxl_style,
    sdxl_low_vram,
    flux_character,
    flux_style,
    compare_optimizers,
    continue_training,
)
