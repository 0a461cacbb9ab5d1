"""What a model file holds, told by its header alone: family, layers. Nothing is loaded.

A preset filled in before anything runs needs the family, and the size of the LoRA to come.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import folder_paths

from ..trustopt.adapters.settings import layer_settings
from ..trustopt.adapters.targets import select_layers
from ..trustopt.config import AdapterConfig
from ..trustopt.host import Family, LayerShape
from ..trustopt.hosts.shapes import Shapes, model_shapes
from ..trustopt.hosts.tiny.specs import spec

FOLDERS = ("checkpoints", "diffusion_models")
"""ComfyUI's model folders a base model is loaded from."""

PREFIX = "model.diffusion_model."
"""Before a network's tensors in a file that holds more than the network."""

LONGEST_HEADER = 100_000_000
"""Bytes; safetensors' own bound."""

COUNTED = ("lora", "rslora", "locon")
"""Algorithms whose parameters are the two factors and nothing else."""


@dataclass(frozen=True)
class ModelFile:
    """A model that a loader node names."""

    name: str
    """As runs on disk name it: the file's name, or ``tiny-sdxl``."""
    family: Family
    layers: Mapping[str, LayerShape]
    """Linear and convolution layers of the network, by canonical name."""


def tiny_model(family: Family) -> ModelFile:
    """Return what the embedded demo model holds.

    Raises:
        ValueError: If there is no such family.
    """
    return ModelFile(f"tiny-{family}", family, layers_of(model_shapes(spec(family))["unet"]))


def find_model(name: str) -> ModelFile | None:
    """Return what a file in ComfyUI's model folders holds; None if it is no SDXL or FLUX.1.

    Args:
        name: As a loader lists it, relative to its folder. ComfyUI cuts off what leads out of it.
    """
    for folder in FOLDERS:
        path = folder_paths.get_full_path(folder, name)
        if path is not None:
            shapes = read_shapes(Path(path))
            family = family_of_shapes(shapes)
            return ModelFile(Path(path).name, family, layers_of(shapes)) if family else None
    return None


def read_shapes(path: Path) -> Shapes:
    """Return the network's tensors from a safetensors header; empty for another or a broken file.

    Source: the format is an 8-byte little-endian length, then that much JSON
    (huggingface/safetensors, README.md).
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length)) if length <= LONGEST_HEADER else {}
        shapes = {name: tuple(t["shape"]) for name, t in header.items() if "shape" in t}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}
    network = {n.removeprefix(PREFIX): s for n, s in shapes.items() if n.startswith(PREFIX)}
    return network or shapes


def family_of_shapes(shapes: Shapes) -> Family | None:
    """Return the family that a network's tensors tell of; None for one that is not trained here.

    FLUX.1 reads 64 channels (16 latents in patches of 2 x 2), SDXL 4 and 2816 numbers of labels;
    the tiny models have FLUX.1's channels and their own labels.
    """
    if shapes.get("double_blocks.0.img_attn.qkv.weight"):
        is_other = any("distilled_guidance" in n or "modulation_img" in n for n in shapes)
        return "flux" if not is_other and shapes.get("img_in.weight", ())[1:] == (64,) else None
    labels = shapes.get("label_emb.0.0.weight", ())[1:]
    latents = shapes.get("input_blocks.0.0.weight", ())[1:2]
    return "sdxl" if labels == (2816,) and latents == (4,) else None


def layers_of(shapes: Shapes) -> dict[str, LayerShape]:
    """Return the linear and convolution layers among tensors."""
    layers: dict[str, LayerShape] = {}
    for name, shape in shapes.items():
        if not name.endswith(".weight") or len(shape) not in (2, 4):
            continue
        kernel = (shape[2], shape[3]) if len(shape) == 4 else (1, 1)
        layers[name.removesuffix(".weight")] = LayerShape(
            kind="conv2d" if len(shape) == 4 else "linear",
            in_features=shape[1],
            out_features=shape[0],
            kernel_size=kernel,
        )
    return layers


def lora_parameters(model: ModelFile, config: AdapterConfig) -> int | None:
    """Return how many numbers a LoRA for a model holds; None where only building it would tell.

    Raises:
        ValueError: If the adapter does not fit the model.
    """
    if config.algorithm not in COUNTED or config.train_text_encoders:
        return None
    layers = select_layers(model.layers, config, model.family)
    settings = layer_settings(layers, config)
    return sum(
        settings[name].rank
        * (shape.in_features * shape.kernel_size[0] * shape.kernel_size[1] + shape.out_features)
        for name, shape in layers.items()
    )
