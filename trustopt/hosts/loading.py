"""Makes a ``DiffusersHost`` of the tiny models, of checkpoint files, or of a diffusers folder."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..host import Family
from .checkpoint import Parts, has_shapes, read_weights, recognise, split_parts
from .diffusers_host import DiffusersHost
from .flux import FluxDenoiser
from .folder import read_folder
from .layouts.family import FluxModel, SDXLModel
from .modules import build_modules
from .noise_levels import sdxl_sigmas
from .sdxl import SDXLDenoiser
from .shapes import model_shapes
from .text import ClipEncoder, FluxText, SDXLText, T5Encoder
from .tiny.specs import spec
from .tiny.weights import tiny_state_dict
from .tokenizers import find_clip_tokenizer, find_t5_tokenizer

FLUX_DEV_SHIFT = 1.15
"""mu of FLUX.1-dev at 1024 x 1024 pixels, the value ComfyUI uses at every size."""

SCHNELL_TOKENS = 256
"""Length of texts in FLUX.1-schnell's training; dev has 512."""

_PART_NAMES = {
    "unet": "network",
    "vae": "VAE",
    "clip_l": "CLIP-L text encoder",
    "clip_g": "CLIP-G text encoder",
    "t5xxl": "T5 text encoder",
}


def load_tiny(
    family: Family,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    pretrained: bool = True,
) -> DiffusersHost:
    """Return the embedded tiny model of a family; nothing is downloaded.

    Args:
        family: SDXL's is pretrained on emoji, FLUX's is untrained.
        device: Where to run.
        dtype: What the network and the text encoders compute in.
        pretrained: False gives an untrained one for SDXL, too.

    Raises:
        ValueError: If there is no such family.
    """
    model = spec(family)
    modules = build_modules(model, tiny_state_dict(family, pretrained=pretrained), dtype)
    return _host(model, modules, {}, f"tiny-{family}", device, None)


def load_checkpoint(
    path: str | Path,
    *,
    dtype: torch.dtype = torch.bfloat16,
    device: torch.device | str = "cpu",
    files: Sequence[str | Path] = (),
    tokenizers: str | Path | None = None,
    t5_tokens: int | None = None,
) -> DiffusersHost:
    """Return a host for an SDXL or FLUX.1 model on disk; nothing is downloaded.

    Args:
        path: A ``.safetensors`` checkpoint (with LDM, BFL or ComfyUI names) or a diffusers
            folder.
        dtype: What the network and the text encoders compute in; the VAE runs in float32.
        device: Where to run.
        files: Files of parts the checkpoint lacks or that replace its own, in any order: VAE,
            CLIP-L, CLIP-G, T5. FLUX's checkpoints usually hold the network alone.
        tokenizers: A folder that holds tokenizers (ComfyUI's own, or a diffusers model), for
            checkpoints; None looks into Hugging Face's cache.
        t5_tokens: FLUX: length every caption is filled up or cut to; None is the length the
            model was made with, 512 for dev and 256 for schnell.

    Raises:
        ValueError: If the path is missing, the model is neither SDXL nor FLUX.1, or a part or
            tokenizer is missing; the first line says which and what to do.
    """
    path = Path(path)
    if path.is_dir():
        if files:
            raise ValueError(
                f"{path.name} is a diffusers folder, which takes no further files: replace the "
                "part inside the folder, or give a .safetensors checkpoint"
            )
        model, modules, schedule = read_folder(path, dtype)
        model = _with_t5_tokens(model, t5_tokens)
        return _host(model, modules, schedule, path.name, device, Path(tokenizers or path))
    model, parts, schedule = _read_files(path, [Path(file) for file in files])
    modules = build_modules(model, parts, dtype)
    model = _with_t5_tokens(model, t5_tokens)
    folder = Path(tokenizers) if tokenizers else None
    return _host(model, modules, schedule, path.name, device, folder)


def _read_files(
    path: Path, files: Sequence[Path]
) -> tuple[SDXLModel | FluxModel, Parts, dict[str, Any]]:
    """Return a checkpoint's layouts, its parts with those of ``files``, and its schedule."""
    weights = read_weights(path)
    parts, flags = split_parts(weights, path.name)
    model = recognise(parts.get("unet", {}), weights, path.name)
    for file in files:
        found, _ = split_parts(read_weights(file), file.name)
        if not found:
            raise ValueError(
                f"{file.name} holds no VAE and no text encoder: leave it out, or give a file of "
                f"the parts {path.name} lacks"
            )
        parts |= found
    shapes = model_shapes(model)
    lacking = [_PART_NAMES[part] for part in shapes if part not in parts]
    if lacking:
        raise ValueError(
            f"{path.name} holds no {' and no '.join(lacking)}: give the files of those parts with "
            "files=, or a diffusers folder, which holds them all"
        )
    for part, named in shapes.items():
        if not has_shapes(parts[part], named):
            raise ValueError(
                f"the {_PART_NAMES[part]} for {path.name} is not the one this model was made "
                "with: give the file its authors publish"
            )
    return model, parts, _schedule(flags)


def _with_t5_tokens(model: SDXLModel | FluxModel, tokens: int | None) -> SDXLModel | FluxModel:
    """Return the layouts with the length of T5's texts set."""
    if isinstance(model, SDXLModel):
        return model
    if tokens is None:
        tokens = model.t5xxl.tokens if model.unet.guidance else SCHNELL_TOKENS
    if tokens < 1:
        raise ValueError(f"t5_tokens must be at least 1, got {tokens}; 512 is what FLUX.1 dev has")
    return replace(model, t5xxl=replace(model.t5xxl, tokens=tokens))


def _schedule(flags: set[str]) -> dict[str, Any]:
    """Return a file's flags as the scheduler config of a folder would say them."""
    kind = "v_prediction" if "v_pred" in flags else "epsilon"
    return {"prediction_type": kind, "rescale_betas_zero_snr": {"v_pred", "ztsnr"} <= flags}


def _host(
    model: SDXLModel | FluxModel,
    modules: Mapping[str, nn.Module],
    schedule: Mapping[str, Any],
    name: str,
    device: torch.device | str,
    tokenizers: Path | None,
) -> DiffusersHost:
    """Put a host together.

    Args:
        model: Layouts.
        modules: By component.
        schedule: What a diffusers scheduler config says; missing entries are the family's own.
        name: Of the model.
        device: Where to run.
        tokenizers: Where to look for them.
    """
    clip_words = find_clip_tokenizer(model.clip_l, tokenizers)
    clip_l = ClipEncoder(modules["clip_l"], model.clip_l, clip_words)
    if isinstance(model, SDXLModel):
        text = SDXLText(clip_l, ClipEncoder(modules["clip_g"], model.clip_g, clip_words))
        denoiser = _sdxl_denoiser(modules["unet"], model, schedule, name)
    else:
        t5_words = find_t5_tokenizer(model.t5xxl, tokenizers)
        text = FluxText(clip_l, T5Encoder(modules["t5xxl"], model.t5xxl, t5_words))
        denoiser = _flux_denoiser(modules["unet"], model, schedule)
    return DiffusersHost(denoiser, modules["vae"], text, model_name=name, device=device)


def _sdxl_denoiser(
    network: nn.Module, model: SDXLModel, schedule: Mapping[str, Any], name: str
) -> SDXLDenoiser:
    kind = schedule.get("prediction_type", "epsilon")
    if kind not in ("epsilon", "v_prediction"):
        raise ValueError(
            f"{name} predicts {kind!r}; only epsilon and v_prediction models can be trained: "
            "correct prediction_type in its scheduler_config.json, or take another model"
        )
    zero_terminal = bool(schedule.get("rescale_betas_zero_snr", False))
    return SDXLDenoiser(
        network,
        model.unet,
        prediction="v" if kind == "v_prediction" else "eps",
        sigmas=sdxl_sigmas(zero_terminal_snr=zero_terminal),
    )


def _flux_denoiser(
    network: nn.Module, model: FluxModel, schedule: Mapping[str, Any]
) -> FluxDenoiser:
    if schedule.get("use_dynamic_shifting"):
        shift = float(schedule.get("max_shift", FLUX_DEV_SHIFT))
    elif "shift" in schedule:
        shift = math.log(float(schedule["shift"]))
    else:  # without guidance it is schnell, whose levels are not shifted
        shift = FLUX_DEV_SHIFT if model.unet.guidance else 0.0
    return FluxDenoiser(network, model.unet, flow_shift=shift)
