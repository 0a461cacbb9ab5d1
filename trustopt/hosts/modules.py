"""Builds diffusers' and transformers' modules from a config and weights, without a download.

Every module is built on the meta device, which takes no memory and draws no random number, and
is then given the file's own tensors.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .conversion import to_diffusers
from .layouts.family import FluxModel, SDXLModel
from .names import flux_names, unet_names, vae_names

Weights = Mapping[str, Tensor]
Config = Mapping[str, Any]


def build_modules(
    model: SDXLModel | FluxModel, weights: Mapping[str, Weights], dtype: torch.dtype
) -> dict[str, nn.Module]:
    """Return a model's modules by component from weights under shared files' names.

    Args:
        model: The layouts.
        weights: Each component's tensors, see ``hosts.shapes.model_shapes``.
        dtype: Of all but the VAE, which is float32: half precision overflows in SDXL's.
    """
    vae = to_diffusers(weights["vae"], vae_names(model.vae))
    modules = {
        "vae": build_vae(model.vae.diffusers_config(), vae),
        "clip_l": build_clip(model.clip_l.config(), weights["clip_l"], dtype, projection=False),
    }
    config = model.unet.diffusers_config()
    if isinstance(model, FluxModel):
        unet = to_diffusers(weights["unet"], flux_names(model.unet))
        modules["unet"] = build_flux(config, unet, dtype)
        modules["t5xxl"] = build_t5(model.t5xxl.config(), weights["t5xxl"], dtype)
    else:
        unet = to_diffusers(weights["unet"], unet_names(model.unet))
        modules["unet"] = build_unet(config, unet, dtype)
        clip_g = model.clip_g.config()
        modules["clip_g"] = build_clip(clip_g, weights["clip_g"], dtype, projection=True)
    return modules


def build_unet(config: Config, weights: Weights, dtype: torch.dtype) -> nn.Module:
    """Return diffusers' SDXL UNet with weights by diffusers name."""
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        module = UNet2DConditionModel.from_config(dict(config))
    return _loaded(module, weights, dtype)


def build_flux(config: Config, weights: Weights, dtype: torch.dtype) -> nn.Module:
    """Return diffusers' FLUX transformer with weights by diffusers name."""
    from diffusers import FluxTransformer2DModel

    with torch.device("meta"):
        module = FluxTransformer2DModel.from_config(dict(config))
    return _loaded(module, weights, dtype)


def build_vae(config: Config, weights: Weights) -> nn.Module:
    """Return diffusers' VAE in float32 with weights by diffusers name."""
    from diffusers import AutoencoderKL

    with torch.device("meta"):
        module = AutoencoderKL.from_config(dict(config))
    return _loaded(module, weights, torch.float32)


def build_clip(
    config: Config, weights: Weights, dtype: torch.dtype, *, projection: bool
) -> nn.Module:
    """Return transformers' CLIP text encoder with weights by transformers name."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    cls = CLIPTextModelWithProjection if projection else CLIPTextModel
    with torch.device("meta"):
        module = cls(CLIPTextConfig(**config))
    # transformers 5 dropped the level that files have from CLIPTextModel, but not from the other.
    has_level = any(name.startswith("text_model.") for name in module.state_dict())
    level = "text_model." if has_level else ""
    renamed = {_moved(name, "text_model.", level): tensor for name, tensor in weights.items()}
    positions = torch.arange(config["max_position_embeddings"])[None]
    embeddings = module.get_submodule(f"{level}embeddings")
    embeddings.register_buffer("position_ids", positions, persistent=False)
    return _loaded(module, renamed, dtype)


def build_t5(config: Config, weights: Weights, dtype: torch.dtype) -> nn.Module:
    """Return transformers' T5 encoder with weights by transformers name."""
    from transformers import T5Config, T5EncoderModel

    with torch.device("meta"):
        module: Any = T5EncoderModel(T5Config(**config))
    embedding = weights.get("shared.weight", weights.get("encoder.embed_tokens.weight"))
    tied = {} if embedding is None else dict.fromkeys(_T5_EMBEDDINGS, embedding)
    return _loaded(module, {**weights, **tied}, dtype)


_T5_EMBEDDINGS = ("shared.weight", "encoder.embed_tokens.weight")
"""One tensor under two names; files hold either or both."""


def _moved(name: str, old: str, new: str) -> str:
    """Return ``name`` with the prefix ``old``, where it has it, replaced by ``new``."""
    return new + name[len(old) :] if name.startswith(old) else name


def _loaded(module: nn.Module, weights: Weights, dtype: torch.dtype) -> nn.Module:
    """Give a module its weights in ``dtype``; tensors it does not know are left out."""
    needed = module.state_dict()
    missing = sorted(needed.keys() - weights.keys())
    wrong = [n for n in needed if n in weights and weights[n].shape != needed[n].shape]
    if missing or wrong:
        kind = type(module).__name__
        problem = f"lack {len(missing)}, {missing[0]} first" if missing else f"misshape {wrong[0]}"
        raise ValueError(
            f"the weights of the {kind} {problem}: the file is damaged or of another model; "
            "download it again, or give the file the model's authors publish"
        )
    module.load_state_dict({name: weights[name].to(dtype) for name in needed}, assign=True)
    tensors = (*module.named_parameters(), *module.named_buffers())
    left = [name for name, tensor in tensors if tensor.is_meta]
    assert not left, f"{type(module).__name__} keeps tensors without values: {left}"
    return module
