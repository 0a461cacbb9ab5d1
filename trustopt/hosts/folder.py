"""Reads diffusers model folders."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .checkpoint import read_weights
from .layouts.family import FluxModel, SDXLModel
from .layouts.flux import FLUX_TRANSFORMER, FluxLayout
from .layouts.text import ClipLayout, T5Layout
from .layouts.unet import SIZE_EMBEDDING, UNetLayout
from .modules import build_clip, build_flux, build_t5, build_unet, build_vae
from .names import Names, flux_names, unet_names

Configs = Mapping[str, dict[str, Any]]
AllWeights = Mapping[str, dict[str, Tensor]]
Loaded = tuple[SDXLModel | FluxModel, dict[str, nn.Module]]
"""A model's layouts, and its modules by component."""

_SDXL_PARTS = {
    "unet": "unet",
    "vae": "vae",
    "clip_l": "text_encoder",
    "clip_g": "text_encoder_2",
}
_FLUX_PARTS = {
    "unet": "transformer",
    "vae": "vae",
    "clip_l": "text_encoder",
    "t5xxl": "text_encoder_2",
}
"""Component -> its folder."""


def read_folder(
    folder: Path, dtype: torch.dtype
) -> tuple[SDXLModel | FluxModel, dict[str, nn.Module], dict[str, Any]]:
    """Return a model's layouts, its modules by component, and its scheduler's config.

    Raises:
        ValueError: If the folder is of another model, or lacks a part.
    """
    index = read_json(folder / "model_index.json")
    kind = str(index.get("_class_name", "unknown"))
    if kind.startswith("StableDiffusionXL"):
        places = _SDXL_PARTS
    elif kind.startswith("Flux") and not kind.startswith("Flux2"):
        places = _FLUX_PARTS
    else:
        raise ValueError(
            f"{folder.name} is neither SDXL nor FLUX.1 but a {kind}: "
            "give the folder of an SDXL or FLUX.1 model"
        )
    lacking = [place for place in places.values() if not (folder / place / "config.json").is_file()]
    if lacking:
        raise ValueError(
            f"{folder.name} lacks {' and '.join(lacking)}: copy or download the whole model folder"
        )
    configs = {part: read_json(folder / place / "config.json") for part, place in places.items()}
    weights = {part: _folder_weights(folder / place) for part, place in places.items()}
    scheduler = folder / "scheduler" / "scheduler_config.json"
    schedule = read_json(scheduler) if scheduler.is_file() else {}
    if places is _SDXL_PARTS:
        return *_sdxl(configs, weights, dtype), schedule
    return *_flux(configs, weights, dtype), schedule


def _sdxl(configs: Configs, weights: AllWeights, dtype: torch.dtype) -> Loaded:
    try:
        unet = unet_layout(configs["unet"])
        _check_structure(unet_names(unet), weights["unet"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"the UNet is a variant of SDXL that cannot be trained here ({error}): "
            "give a model of SDXL's own structure"
        ) from error
    model = SDXLModel(
        unet=unet,
        clip_l=_clip_layout(configs["clip_l"], projection=False, pad_with_end=True),
        clip_g=_clip_layout(configs["clip_g"], projection=True, pad_with_end=False),
    )
    return model, {
        "unet": build_unet(configs["unet"], weights["unet"], dtype),
        "vae": build_vae(configs["vae"], weights["vae"]),
        "clip_l": build_clip(configs["clip_l"], weights["clip_l"], dtype, projection=False),
        "clip_g": build_clip(configs["clip_g"], weights["clip_g"], dtype, projection=True),
    }


def _flux(configs: Configs, weights: AllWeights, dtype: torch.dtype) -> Loaded:
    try:
        unet = flux_layout(configs["unet"])
        _check_structure(flux_names(unet), weights["unet"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"the transformer is a variant of FLUX.1 that cannot be trained here ({error}): "
            "give FLUX.1 dev or schnell, or a model of their structure"
        ) from error
    model = FluxModel(
        unet=unet,
        clip_l=_clip_layout(configs["clip_l"], projection=False, pad_with_end=True),
        t5xxl=_t5_layout(configs["t5xxl"]),
    )
    return model, {
        "unet": build_flux(configs["unet"], weights["unet"], dtype),
        "vae": build_vae(configs["vae"], weights["vae"]),
        "clip_l": build_clip(configs["clip_l"], weights["clip_l"], dtype, projection=False),
        "t5xxl": build_t5(configs["t5xxl"], weights["t5xxl"], dtype),
    }


def unet_layout(config: Mapping[str, Any]) -> UNetLayout:
    """Return the layout of a diffusers UNet.

    Raises:
        ValueError: If it is not SDXL's structure, only with other sizes.
    """
    levels = zip(config["down_block_types"], config["transformer_layers_per_block"], strict=True)
    layout = UNetLayout(
        latent_channels=config["in_channels"],
        channels=tuple(config["block_out_channels"]),
        depths=tuple(depth if kind.startswith("CrossAttn") else 0 for kind, depth in levels),
        head_dim=config["block_out_channels"][-1] // config["attention_head_dim"][-1],
        context_dim=config["cross_attention_dim"],
        pooled_dim=config["projection_class_embeddings_input_dim"] - SIZE_EMBEDDING,
        resnets=config["layers_per_block"],
        norm_groups=config.get("norm_num_groups", 32),
    )
    differing = [k for k, v in layout.diffusers_config().items() if config.get(k) != v]
    if differing:
        raise ValueError(f"other {', '.join(differing)}")
    return layout


def _check_structure(names: Names, weights: Mapping[str, Tensor]) -> None:
    """Compare the table of the layout with what there are weights of.

    Raises:
        ValueError: If they name different modules.
    """
    expected = {part.module for parts in names.values() for part in parts}
    differing = expected ^ {name.rpartition(".")[0] for name in weights}
    if differing:
        raise ValueError(f"other modules, such as {min(differing)}")


def flux_layout(config: Mapping[str, Any]) -> FluxLayout:
    """Return the layout of a diffusers FLUX transformer.

    Raises:
        ValueError: If it takes more than noised latents, as Fill, Canny and Depth do.
    """
    layout = FluxLayout(
        latent_channels=FLUX_TRANSFORMER.latent_channels,
        hidden=config["attention_head_dim"] * config["num_attention_heads"],
        head_dim=config["attention_head_dim"],
        axes_dim=tuple(config["axes_dims_rope"]),
        double_blocks=config["num_layers"],
        single_blocks=config["num_single_layers"],
        context_dim=config["joint_attention_dim"],
        pooled_dim=config["pooled_projection_dim"],
        guidance=config["guidance_embeds"],
    )
    if config["in_channels"] != layout.patch_channels:
        raise ValueError(f"{config['in_channels']} instead of {layout.patch_channels} inputs")
    return layout


def _clip_layout(config: Mapping[str, Any], *, projection: bool, pad_with_end: bool) -> ClipLayout:
    return ClipLayout(
        hidden=config["hidden_size"],
        heads=config["num_attention_heads"],
        layers=config["num_hidden_layers"],
        activation=config["hidden_act"],
        projection=projection,
        vocabulary=config["vocab_size"],
        pad_with_end=pad_with_end,
        positions=config["max_position_embeddings"],
    )


def _t5_layout(config: Mapping[str, Any]) -> T5Layout:
    return T5Layout(
        hidden=config["d_model"],
        heads=config["num_heads"],
        head_dim=config["d_kv"],
        mlp=config["d_ff"],
        layers=config["num_layers"],
        vocabulary=config["vocab_size"],
    )


def _folder_weights(folder: Path) -> dict[str, Tensor]:
    """Return the tensors of a component's folder: one file or several, full precision first.

    Raises:
        ValueError: If there is no safetensors file.
    """
    files = sorted(folder.glob("*.safetensors"))
    # Variants such as model.fp16.safetensors or model.non_ema.safetensors stand beside the plain.
    plain = [path for path in files if "." not in path.stem]
    plain = plain or [path for path in files if ".fp16" in path.stem]
    if not plain:
        raise ValueError(f"{folder} holds no .safetensors file: download the model in that format")
    weights: dict[str, Tensor] = {}
    for path in plain:
        weights |= read_weights(path)
    return weights


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON file's object.

    Raises:
        ValueError: If it is missing or no JSON object.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(
            f"{path.parent} is no diffusers model: it holds no {path.name}; give the folder that "
            "does, or a .safetensors checkpoint"
        ) from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} cannot be read ({error}): download the model again") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} is no JSON object: download the model again")
    return values
