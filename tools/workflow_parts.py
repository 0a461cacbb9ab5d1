"""What the example workflows are made of: a sheet with nodes, and the groups all of them share."""

from dataclasses import dataclass, field
from typing import Any

EXAMPLE = "(example) emoji animals"
DARK = {"color": "#222", "bgcolor": "#000"}
GREY, BLUE, GREEN, PURPLE = "#aaa", "#6ab0de", "#8a8", "#a78bda"

_HUB = "https://huggingface.co"
_FLUX, _ENCODERS = "black-forest-labs/FLUX.1-dev", "comfyanonymous/flux_text_encoders"
MODELS = {  # file: (folder of models/, where it comes from)
    "sd_xl_base_1.0.safetensors": ("checkpoints", "stabilityai/stable-diffusion-xl-base-1.0"),
    "flux1-dev.safetensors": ("diffusion_models", _FLUX),
    "ae.safetensors": ("vae", _FLUX),
    "clip_l.safetensors": ("text_encoders", _ENCODERS),
    "t5xxl_fp8_e4m3fn.safetensors": ("text_encoders", _ENCODERS),
}
"""Model files the workflows name: ComfyUI offers to fetch those a user lacks."""

Output = tuple[int, str]
"""A node of a sheet and the name of one of its outputs."""


@dataclass
class Sheet:
    """A workflow under construction; a node is known by its index in ``nodes``."""

    name: str
    nodes: list[dict[str, Any]] = field(default_factory=list)
    links: list[tuple[int, str, int, str]] = field(default_factory=list)
    groups: list[dict[str, Any]] = field(default_factory=list)

    def add(
        self,
        kind: str,
        pos: tuple[int, int],
        size: tuple[int, int],
        *,
        title: str = "",
        inputs: dict[str, Output] | None = None,
        **widgets: Any,
    ) -> int:
        """Add a node, its inputs connected to outputs; return the node."""
        node = len(self.nodes)
        models = [
            {"name": file, "directory": MODELS[file][0], "url": source_of(file)}
            for file in widgets.values()
            if file in MODELS
        ]
        self.nodes.append(
            {
                "type": kind,
                "pos": pos,
                "size": size,
                "title": title,
                "widgets": widgets,
                "properties": {"models": models} if models else {},
                # On a note's own brown, Nodes 2.0 writes code in an unreadable blue.
                "colors": DARK if kind == "MarkdownNote" else {},
            }
        )
        self.links += [(*output, node, name) for name, output in (inputs or {}).items()]
        return node

    def group(self, title: str, bounding: tuple[int, int, int, int], color: str) -> None:
        """Draw a frame: x, y, width, height."""
        self.groups.append({"title": title, "bounding": bounding, "color": color})

    def note(self, text: str) -> None:
        """Add the note that explains the steps."""
        self.add("MarkdownNote", (0, 0), (420, 800), title="Read me", text=text)


def source_of(file: str) -> str:
    """Return where a model file comes from."""
    return f"{_HUB}/{MODELS[file][1]}/resolve/main/{file}"


def train_nodes(
    sheet: Sheet,
    sources: dict[str, Output],
    *,
    trigger_word: str,
    preset: dict[str, Any],
    name: str,
    optimizer: str = "autotrustgo",
    samples: dict[str, Any] | None = None,
    **settings: Any,
) -> int:
    """Add image set, preset, optimizer, trainer and plots; return the trainer.

    Args:
        sheet: To add to.
        sources: The trainer's ``model``, ``clip`` and ``vae``.
        trigger_word: Of the image set.
        preset: The preset's widgets.
        name: Of the LoRA.
        optimizer: Its name in the list.
        samples: Widgets of the samples node; None leaves it out.
        settings: More of the trainer's widgets.
    """
    inputs = {**sources, **plan_nodes(sheet, sources["model"], trigger_word, preset)}
    if samples is not None:
        node = sheet.add("TrustOpt_Samples", (880, 940), (340, 460), **samples)
        sheet.group("4 · Samples on the way", (860, 860, 380, 580), GREEN)
        inputs["samples"] = (node, "samples")
    trainer = train_column(sheet, 1300, inputs, optimizer, name=name, **settings)
    sheet.add(
        "TrustOpt_SignalPreview",
        (1740, 0),
        (620, 760),
        inputs={"runs.run0": (trainer, "signals")},
    )
    sheet.group("5 · Train", (1280, -80, 380, 1620), PURPLE)
    sheet.group("6 · Signals", (1720, -80, 660, 860), BLUE)
    return trainer


def plan_nodes(
    sheet: Sheet, model: Output, trigger_word: str, preset: dict[str, Any]
) -> dict[str, Output]:
    """Add image set and preset; return what a trainer takes from them."""
    images = sheet.add(
        "TrustOpt_LoadImageSet", (500, 280), (320, 500), folder=EXAMPLE, trigger_word=trigger_word
    )
    plan = sheet.add(
        "TrustOpt_Preset",
        (880, 0),
        (340, 780),
        inputs={"image_set": (images, "image_set"), "model": model},
        **preset,
    )
    sheet.group("2 · Pictures", (480, 200, 360, 620), GREEN)
    sheet.group("3 · Plan", (860, -80, 380, 900), GREEN)
    return {"image_set": (images, "image_set"), "plan": (plan, "plan")}


def train_column(
    sheet: Sheet, x: int, inputs: dict[str, Output], optimizer: str, **settings: Any
) -> int:
    """Add an optimizer and its trainer below; return the trainer."""
    chosen = sheet.add("TrustOpt_Optimizer", (x, 0), (340, 220), optimizer=optimizer)
    return sheet.add(
        "TrustOpt_TrainLora",
        (x, 300),
        (340, 1200),
        inputs={**inputs, "optimizer": (chosen, "optimizer")},
        **settings,
    )


def tiny_model(sheet: Sheet) -> dict[str, Output]:
    """Add the tiny SDXL; return its outputs as a trainer takes them."""
    node = sheet.add("TrustOpt_TinyModel", (500, 0), (320, 110), family="sdxl")
    sheet.group("1 · Model", (480, -80, 360, 250), GREY)
    return {"model": (node, "model"), "clip": (node, "clip"), "vae": (node, "vae")}


def sdxl_checkpoint(sheet: Sheet) -> dict[str, Output]:
    """Add the loader of an SDXL checkpoint; return its outputs."""
    node = sheet.add(
        "CheckpointLoaderSimple", (500, 0), (320, 110), ckpt_name="sd_xl_base_1.0.safetensors"
    )
    sheet.group("1 · Model", (480, -80, 360, 250), GREY)
    return {"model": (node, "MODEL"), "clip": (node, "CLIP"), "vae": (node, "VAE")}


def flux_files(sheet: Sheet) -> dict[str, Output]:
    """Add the loaders of FLUX.1 dev's parts; return their outputs."""
    unet = sheet.add(
        "UNETLoader", (500, -300), (320, 90), unet_name="flux1-dev.safetensors",
        weight_dtype="fp8_e4m3fn",
    )  # fmt: skip
    text = sheet.add(
        "DualCLIPLoader", (500, -160), (320, 140), clip_name1="t5xxl_fp8_e4m3fn.safetensors",
        clip_name2="clip_l.safetensors", type="flux",
    )  # fmt: skip
    decoder = sheet.add("VAELoader", (500, 40), (320, 60), vae_name="ae.safetensors")
    sheet.group("1 · Model", (480, -380, 360, 550), GREY)
    return {"model": (unet, "MODEL"), "clip": (text, "CLIP"), "vae": (decoder, "VAE")}


def encode(sheet: Sheet, title: str, text: str, clip: Output, y: int) -> Output:
    """Add a prompt in the column of the comparison; return its conditioning."""
    node = sheet.add(
        "CLIPTextEncode", (1740, y), (300, 120), title=title, inputs={"clip": clip}, text=text
    )
    return node, "CONDITIONING"


def compare(
    sheet: Sheet,
    models: dict[str, Output],
    inputs: dict[str, Output],
    vae: Output,
    **sampling: Any,
) -> None:
    """Sample the same prompt and noise with each model, one row each."""
    for row, (title, model) in enumerate(models.items()):
        y = 960 + 400 * row
        sampler = sheet.add(
            "KSampler",
            (2100, y),
            (300, 280),
            title=title,
            inputs={"model": model, **inputs},
            seed=7,
            control_after_generate="fixed",
            **sampling,
        )
        decode = sheet.add(
            "VAEDecode", (2460, y), (200, 50), inputs={"samples": (sampler, "LATENT"), "vae": vae}
        )
        sheet.add(
            "PreviewImage",
            (2720, y),
            (320, 320),
            title=f"{title} training",
            inputs={"images": (decode, "IMAGE")},
        )
    sheet.group("7 · The same prompt and noise", (1720, 880, 1340, 840), GREEN)
