"""Writes trained modules as one checkpoint of the kind people share, in fp16."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from trustopt.hosts.checkpoint import read_weights, split_parts
from trustopt.hosts.names import Names, unet_names, vae_names
from trustopt.hosts.shapes import model_shapes
from trustopt.hosts.tiny.specs import SDXL

from .clock import write_tensors

_PREFIXES = {
    "unet": "model.diffusion_model.",
    "vae": "first_stage_model.",
    "clip_l": "text_encoders.clip_l.transformer.",
    "clip_g": "text_encoders.clip_g.transformer.",
}


def write_checkpoint(modules: Mapping[str, nn.Module], file: Path) -> None:
    """Write UNet, VAE and text encoders under shared files' names.

    Args:
        modules: By component; diffusers' and transformers'.
        file: Replaced at once.
    """
    tensors: dict[str, Tensor] = {}
    for component, module in modules.items():
        tensors |= _shared(component, module)
    write_tensors(tensors, file)


def replace_part(component: str, module: nn.Module, file: Path) -> None:
    """Put another module into a checkpoint that is there."""
    write_tensors(read_weights(file) | _shared(component, module), file)


def _shared(component: str, module: nn.Module) -> dict[str, Tensor]:
    """Return a module's tensors in fp16 under shared files' names."""
    state, tensors = module.state_dict(), {}
    for name, shape in model_shapes(SDXL)[component].items():
        tensor = state[_module_name(component, name, state)]
        tensors[_PREFIXES[component] + name] = tensor.reshape(shape).to(torch.float16)
    return tensors


def read_parts(file: Path) -> dict[str, dict[str, Tensor]]:
    """Return a checkpoint's components in float32."""
    parts, _ = split_parts(read_weights(file), file.name)
    return {part: {n: t.float() for n, t in named.items()} for part, named in parts.items()}


_NAMES: dict[str, Names] = {"unet": unet_names(SDXL.unet), "vae": vae_names(SDXL.vae)}


def _module_name(component: str, name: str, state: Mapping[str, Tensor]) -> str:
    """Return what the module calls a tensor of the file."""
    if component in _NAMES:
        module, _, kind = name.rpartition(".")
        (part,) = _NAMES[component][module]
        return f"{part.module}.{kind}"
    # transformers 5 dropped a level from one of its two CLIP classes.
    return name if name in state else name.removeprefix("text_model.")
