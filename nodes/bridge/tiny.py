"""The embedded demo model as genuine MODEL, CLIP and VAE objects of ComfyUI.

The same weights and sizes as ``trustopt/hosts/tiny`` has headless; every other node takes them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.sd1_clip
import comfy.sdxl_clip
import comfy.supported_models
import comfy.supported_models_base
import comfy.text_encoders.flux
import torch
from torch import Tensor

from ...trustopt.host import Family
from ...trustopt.hosts.layouts.text import ClipLayout, T5Layout
from ...trustopt.hosts.tiny.specs import spec
from ...trustopt.hosts.tiny.tokenizer import word_ids
from ...trustopt.hosts.tiny.weights import tiny_state_dict

Weights = dict[str, dict[str, Tensor]]


@dataclass(frozen=True, kw_only=True)
class TinyModels:
    """What a checkpoint loader outputs."""

    model: Any
    """MODEL"""
    clip: Any
    """CLIP"""
    vae: Any
    """VAE"""


def load_tiny(family: Family) -> TinyModels:
    """Make the tiny model of a family, float32; nothing is downloaded, nothing is random.

    Raises:
        ValueError: If there is no such family.
    """
    weights = tiny_state_dict(family)
    return TinyModels(
        model=_model(family, weights["unet"]),
        clip=_clip(family, weights),
        vae=_vae(family, weights["vae"]),
    )


class _SDXL(comfy.supported_models.SDXL):
    # The stock class puts SDXL's 64 channels a head in place of the tiny model's.
    unet_extra_config: dict[str, Any] = {}  # noqa: RUF012  (ComfyUI reads it off the class)


def _model(family: Family, weights: dict[str, Tensor], *, disable_dynamic: bool = False) -> Any:
    sizes: Any = spec(family)
    if family == "sdxl":
        config = _SDXL(sizes.unet.ldm_config())
    else:
        config = comfy.supported_models.Flux(sizes.unet.bfl_config())
    config.set_inference_dtype(torch.float32, None)
    kind = comfy.model_patcher.CoreModelPatcher
    patcher = (comfy.model_patcher.ModelPatcher if disable_dynamic else kind)(
        config.get_model({}, ""),
        load_device=comfy.model_management.get_torch_device(),
        offload_device=comfy.model_management.unet_offload_device(),
    )
    patcher.model.load_model_weights(dict(weights), "", assign=patcher.is_dynamic())
    if family == "sdxl":
        _set_norm_groups(patcher.model, sizes.unet.norm_groups)
    # ComfyUI makes a model anew with this when something needs a copy of its own.
    patcher.cached_patcher_init = (_model_again, (f"tiny-{family}",))
    return patcher


def _model_again(name: str, *, disable_dynamic: bool = False) -> Any:
    family: Any = name.removeprefix("tiny-")
    weights = tiny_state_dict(family)["unet"]
    return _model(family, weights, disable_dynamic=disable_dynamic)


def _vae(family: Family, weights: dict[str, Tensor]) -> Any:
    layout = spec(family).vae
    channels = layout.latent_channels
    parameters = {"ddconfig": layout.ldm_config(), "embed_dim": channels}
    vae = comfy.sd.VAE(sd=dict(weights), config={"params": parameters}, dtype=torch.float32)
    vae.latent_channels = channels
    _set_norm_groups(vae.first_stage_model, layout.norm_groups)
    return vae


def _set_norm_groups(module: torch.nn.Module, groups: int) -> None:
    """Set the groups of all group norms: ComfyUI has SDXL's 32 built in."""
    for part in module.modules():
        if isinstance(part, torch.nn.GroupNorm):
            part.num_groups = groups


def _clip(family: Family, weights: Weights) -> Any:
    sizes: Any = spec(family)
    encoders: dict[str, ClipLayout | T5Layout]
    if family == "sdxl":
        encoders = {"l": sizes.clip_l, "g": sizes.clip_g}
        make = comfy.sdxl_clip.SDXLClipModel
    else:
        encoders = {"l": sizes.clip_l, "t5xxl": sizes.t5xxl}
        make = comfy.text_encoders.flux.FluxClipModel
    target = comfy.supported_models_base.ClipTarget(
        lambda **_: TinyTokenizer(encoders), _encoders(make, encoders)
    )
    clip = comfy.sd.CLIP(target, model_options={"dtype": torch.float32})
    for name in encoders:
        _load_encoder(getattr(clip.cond_stage_model, _component(name)), weights[_component(name)])
    return clip


def _component(name: str) -> str:
    return name if name == "t5xxl" else f"clip_{name}"


def _encoders(
    make: Callable[..., Any], encoders: dict[str, ClipLayout | T5Layout]
) -> Callable[..., Any]:
    """Return a maker of ComfyUI's pair of text encoders in other sizes."""
    configs = {f"{_component(n)}_model_config": layout.config() for n, layout in encoders.items()}

    def small(device: Any, dtype: torch.dtype, model_options: dict[str, Any]) -> Any:
        pair = make(device=device, dtype=dtype, model_options={**model_options, **configs})
        for name, layout in encoders.items():
            if isinstance(layout, ClipLayout):
                _set_vocabulary(getattr(pair, _component(name)), layout, dtype, device)
        return pair

    return small


def _set_vocabulary(encoder: Any, layout: ClipLayout, dtype: torch.dtype, device: Any) -> None:
    """Give a CLIP encoder the tiny vocabulary: ComfyUI has the real one built in."""
    table = encoder.operations.Embedding(
        layout.vocabulary, layout.hidden, dtype=dtype, device=device
    )
    encoder.transformer.set_input_embeddings(table.requires_grad_(False))
    encoder.special_tokens = {"start": layout.begin, "end": layout.end, "pad": layout.pad}


def _load_encoder(encoder: Any, weights: dict[str, Tensor]) -> None:
    own = dict(weights)
    if "text_model.final_layer_norm.weight" in own and "text_projection.weight" not in own:
        # ComfyUI gives every CLIP a projection and leaves a missing one uninitialised.
        own["text_projection.weight"] = torch.eye(len(own["text_model.final_layer_norm.weight"]))
    encoder.load_sd(own)


class TinyTokenizer:
    """Splits text into the hashed words of the tiny models, with ComfyUI's chunks and weights.

    Args:
        encoders: The shape of each text encoder, by ComfyUI's key of its tokens.
    """

    def __init__(self, encoders: dict[str, ClipLayout | T5Layout]) -> None:
        self._tokenizers = {name: _tokenizer(name, layout) for name, layout in encoders.items()}

    def tokenize_with_weights(
        self, text: str, return_word_ids: bool = False, **options: Any
    ) -> dict[str, Any]:
        """Return each encoder's rows of ``(id, weight)``."""
        return {
            name: tokenizer.tokenize_with_weights(text, return_word_ids, **options)
            for name, tokenizer in self._tokenizers.items()
        }

    def state_dict(self) -> dict[str, Tensor]:
        """Return nothing: a hash has no vocabulary to save."""
        return {}


def _tokenizer(name: str, layout: ClipLayout | T5Layout) -> Any:
    words = _Words(layout)
    loader = SimpleNamespace(from_pretrained=lambda *_, **__: words)
    if isinstance(layout, ClipLayout):
        return comfy.sd1_clip.SDTokenizer(
            tokenizer_class=loader,
            pad_with_end=layout.pad_with_end,
            embedding_size=layout.hidden,
            embedding_key=_component(name),
        )
    return comfy.sd1_clip.SDTokenizer(
        tokenizer_class=loader,
        pad_with_end=False,
        embedding_size=layout.hidden,
        embedding_key=_component(name),
        has_start_token=False,
        pad_to_max_length=False,
        max_length=layout.tokens,
        min_length=layout.tokens,
    )


class _Words:
    """The part of a transformers tokenizer that ComfyUI's ``SDTokenizer`` calls."""

    def __init__(self, layout: ClipLayout | T5Layout) -> None:
        self.layout = layout

    def __call__(self, text: str) -> dict[str, list[int]]:
        """Return a text's ids between its marks; T5's are cut to the layout's length."""
        ids, layout = word_ids(text), self.layout
        if isinstance(layout, ClipLayout):
            return {"input_ids": [layout.begin, *ids, layout.end]}
        return {"input_ids": [*ids[: layout.tokens - 1], layout.end]}

    def get_vocab(self) -> dict[str, int]:
        """Return nothing: hashed words cannot be turned back into text."""
        return {}
