"""The example workflows: which nodes, where, connected how. ``write_workflows.py`` draws them."""

from dataclasses import dataclass, field
from typing import Any

from workflow_notes import FLUX_NOTE, QUICKSTART_NOTE, SDXL_NOTE

EXAMPLE = "(example) emoji animals"
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


def quickstart_tiny() -> Sheet:
    """Return the first workflow: the tiny model, nothing downloaded."""
    sheet = Sheet("quickstart_tiny")
    sheet.note(QUICKSTART_NOTE)
    tiny = sheet.add("TrustOpt_TinyModel", (500, 0), (320, 110), family="sdxl")
    model, clip, vae = (tiny, "model"), (tiny, "clip"), (tiny, "vae")
    sheet.group("1 · Model", (480, -80, 360, 250), GREY)
    trainer = train_nodes(
        sheet,
        {"model": model, "clip": clip, "vae": vae},
        trigger_word="twemoji",
        preset={"purpose": "style", "steps": 120, "lr": 1e-3, "batch_size": 4, "resolution": 64},
        name="quickstart",
    )
    prompt = encode(sheet, "Prompt", "twemoji, the face of a fox", clip, 960)
    negative = encode(sheet, "Negative prompt", "", clip, 1140)
    latent = sheet.add("EmptyLatentImage", (1740, 1320), (300, 110), width=64, height=64)
    compare(
        sheet,
        {"Before": model, "After": (trainer, "model")},
        {"positive": prompt, "negative": negative, "latent_image": (latent, "LATENT")},
        vae,
        steps=12,
        cfg=2.0,
        sampler_name="euler",
        scheduler="normal",
    )
    return sheet


def sdxl_character() -> Sheet:
    """Return the workflow that trains a character for an SDXL checkpoint."""
    sheet = Sheet("sdxl_character")
    sheet.note(SDXL_NOTE)
    loader = sheet.add(
        "CheckpointLoaderSimple", (500, 0), (320, 110), ckpt_name="sd_xl_base_1.0.safetensors"
    )
    model, clip, vae = (loader, "MODEL"), (loader, "CLIP"), (loader, "VAE")
    sheet.group("1 · Model", (480, -80, 360, 250), GREY)
    trainer = train_nodes(
        sheet,
        {"model": model, "clip": clip, "vae": vae},
        trigger_word="zxq person",
        preset={"purpose": "character"},
        name="my_sdxl_character",
    )
    clip = (trainer, "clip")
    prompt = encode(sheet, "Prompt", "zxq person reading a book in a cafe, soft light", clip, 960)
    negative = encode(sheet, "Negative prompt", "blurry, lowres", clip, 1140)
    latent = sheet.add("EmptyLatentImage", (1740, 1320), (300, 110), width=1024, height=1024)
    compare(
        sheet,
        {"Before": model, "After": (trainer, "model")},
        {"positive": prompt, "negative": negative, "latent_image": (latent, "LATENT")},
        vae,
        steps=25,
        cfg=6.0,
        sampler_name="dpmpp_2m",
        scheduler="karras",
    )
    return sheet


def flux_character() -> Sheet:
    """Return the workflow that trains a character for FLUX.1 dev."""
    sheet = Sheet("flux_character")
    sheet.note(FLUX_NOTE)
    unet = sheet.add(
        "UNETLoader", (500, -300), (320, 90), unet_name="flux1-dev.safetensors",
        weight_dtype="fp8_e4m3fn",
    )  # fmt: skip
    text = sheet.add(
        "DualCLIPLoader", (500, -160), (320, 140), clip_name1="t5xxl_fp8_e4m3fn.safetensors",
        clip_name2="clip_l.safetensors", type="flux",
    )  # fmt: skip
    decoder = sheet.add("VAELoader", (500, 40), (320, 60), vae_name="ae.safetensors")
    model, vae = (unet, "MODEL"), (decoder, "VAE")
    sheet.group("1 · Model", (480, -380, 360, 550), GREY)
    trainer = train_nodes(
        sheet,
        {"model": model, "clip": (text, "CLIP"), "vae": vae},
        trigger_word="zxq person",
        preset={"purpose": "character"},
        name="my_flux_character",
    )
    prompt = encode(
        sheet, "Prompt", "zxq person reading a book in a cafe, soft light", (trainer, "clip"), 960
    )
    guided = sheet.add(
        "FluxGuidance", (1740, 1140), (300, 60), inputs={"conditioning": prompt}, guidance=3.5
    )
    nothing = sheet.add(
        "ConditioningZeroOut", (1740, 1250), (300, 40), inputs={"conditioning": prompt}
    )
    latent = sheet.add("EmptySD3LatentImage", (1740, 1340), (300, 110), width=1024, height=1024)
    compare(
        sheet,
        {"Before": model, "After": (trainer, "model")},
        {
            "positive": (guided, "CONDITIONING"),
            "negative": (nothing, "CONDITIONING"),
            "latent_image": (latent, "LATENT"),
        },
        vae,
        steps=25,
        cfg=1.0,
        sampler_name="euler",
        scheduler="simple",
    )
    return sheet


def train_nodes(
    sheet: Sheet,
    sources: dict[str, Output],
    *,
    trigger_word: str,
    preset: dict[str, Any],
    name: str,
) -> int:
    """Add image set, preset, optimizer, trainer and plots; return the trainer."""
    images = sheet.add(
        "TrustOpt_LoadImageSet", (500, 280), (320, 500), folder=EXAMPLE, trigger_word=trigger_word
    )
    plan = sheet.add(
        "TrustOpt_Preset",
        (880, 0),
        (340, 780),
        inputs={"image_set": (images, "image_set"), "model": sources["model"]},
        **preset,
    )
    optimizer = sheet.add("TrustOpt_Optimizer", (1300, 0), (340, 220), optimizer="autotrustgo")
    trainer = sheet.add(
        "TrustOpt_TrainLora",
        (1300, 300),
        (340, 860),
        inputs={
            **sources,
            "image_set": (images, "image_set"),
            "plan": (plan, "plan"),
            "optimizer": (optimizer, "optimizer"),
        },
        name=name,
    )
    sheet.add(
        "TrustOpt_SignalPreview",
        (1740, 0),
        (620, 760),
        inputs={"runs.run0": (trainer, "signals")},
    )
    sheet.group("2 · Pictures", (480, 200, 360, 620), GREEN)
    sheet.group("3 · Plan", (860, -80, 380, 900), GREEN)
    sheet.group("4 · Train", (1280, -80, 380, 1280), PURPLE)
    sheet.group("5 · Signals", (1720, -80, 660, 860), BLUE)
    return trainer


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
    sheet.group("6 · The same prompt and noise", (1720, 880, 1340, 840), GREEN)


SHEETS = (quickstart_tiny, sdxl_character, flux_character)
