"""Reads single-file checkpoints: finds their parts, and says what a file is."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from .conversion import from_open_clip
from .layouts.family import FluxModel, SDXLModel
from .shapes import Shapes, model_shapes
from .tiny import specs

Parts = dict[str, dict[str, Tensor]]
"""Component (``unet``, ``vae``, ``clip_l``, ``clip_g``, ``t5xxl``) -> tensors by file name."""

_PREFIXES = {
    "model.diffusion_model.": "unet",
    "first_stage_model.": "vae",
    "vae.": "vae",
    "conditioner.embedders.0.transformer.": "clip_l",
    "conditioner.embedders.1.model.": "open_clip_g",
    "text_encoders.clip_l.transformer.": "clip_l",
    "text_encoders.clip_g.transformer.": "clip_g",
    "text_encoders.t5xxl.transformer.": "t5xxl",
}
_BARE = {  # a tensor that only this component has -> the component, in files of one part
    "double_blocks.0.img_attn.qkv.weight": "unet",
    "input_blocks.0.0.weight": "unet",
    "decoder.up.0.block.0.conv1.weight": "vae",
    "encoder.block.0.layer.0.SelfAttention.q.weight": "t5xxl",
    "transformer.resblocks.0.attn.in_proj_weight": "open_clip_g",
    "text_model.encoder.layers.31.mlp.fc1.weight": "clip_g",
    "text_model.encoder.layers.0.mlp.fc1.weight": "clip_l",
}
_NORM = re.compile(r"(\.query_norm|\.key_norm)\.weight$")
_FLAGS = ("v_pred", "ztsnr")
"""Names whose mere presence says how an SDXL model was trained, as ComfyUI reads them."""

_OTHERS = {  # part of a tensor's name -> the model it tells of
    "lora_": "a LoRA, not a base model",
    ".lora_A.": "a LoRA, not a base model",
    "double_stream_modulation_img": "FLUX.2",
    "distilled_guidance_layer": "Chroma",
    "joint_blocks.": "Stable Diffusion 3",
    "cond_stage_model.model.": "Stable Diffusion 2",
    "cond_stage_model.transformer.": "Stable Diffusion 1",
    "cap_embedder": "Lumina",
    "edm_": "an SDXL variant with an EDM noise schedule",
}


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file, mapped from disk.

    Raises:
        ValueError: If there is no such file, or it is of another or a broken format.
    """
    if not path.is_file():
        raise ValueError(
            f"there is no file {path}: give the path of a .safetensors checkpoint "
            "or of a diffusers folder"
        )
    if path.suffix != ".safetensors":
        raise ValueError(
            f"{path.name} is not a .safetensors file: formats like .ckpt can run code when "
            "opened, and are not read; convert it, or download the .safetensors version"
        )
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(
            f"{path.name} cannot be read ({error}): it is cut off or damaged; download it again"
        ) from error


def split_parts(weights: Mapping[str, Tensor], file_name: str) -> tuple[Parts, set[str]]:
    """Return a file's components, and which of the flags it carries.

    Raises:
        ValueError: If the file is quantised.
    """
    if any(name.endswith(("scale_weight", "weight_scale", "scaled_fp8")) for name in weights):
        raise ValueError(
            f"{file_name} is quantised with scales, which the headless trainer does not read: "
            "give a bf16 or fp16 file, or train this one in ComfyUI"
        )
    parts: Parts = {}
    for name, tensor in weights.items():
        for prefix, component in _PREFIXES.items():
            if name.startswith(prefix):
                parts.setdefault(component, {})[name[len(prefix) :]] = tensor
                break
    if not parts:
        component = next((c for marker, c in _BARE.items() if marker in weights), None)
        parts = {component: dict(weights)} if component else {}
    if "open_clip_g" in parts:
        parts["clip_g"] = from_open_clip(parts.pop("open_clip_g"))
    if "unet" in parts:  # ComfyUI saves FLUX's norms under the name the module has there
        parts["unet"] = {_NORM.sub(r"\1.scale", n): t for n, t in parts["unet"].items()}
    return parts, {flag for flag in _FLAGS if flag in weights}


def recognise(
    unet: Mapping[str, Tensor], names: Iterable[str], file_name: str
) -> SDXLModel | FluxModel:
    """Return the layouts of the model a network's weights belong to.

    Args:
        unet: The network's tensors; empty if the file has none.
        names: All names of the file, to tell what else it is.
        file_name: For the message.

    Raises:
        ValueError: If it is neither SDXL nor FLUX.1; the message says what it seems to be.
    """
    other = _other_model(names)
    candidates: list[SDXLModel | FluxModel] = [SDXLModel(), specs.SDXL]
    if "double_blocks.0.img_attn.qkv.weight" in unet:
        candidates = [_flux_model(unet)]
        other = other or "a FLUX variant with other inputs (Fill, Canny, Depth or an edit model)"
    elif "label_emb.0.0.weight" in unet:
        other = other or "an SDXL variant (inpainting, refiner, or one with blocks left out)"
    elif not unet:
        other = other or "a file without a diffusion network"
    for model in candidates:
        if has_shapes(unet, model_shapes(model)["unet"]):
            return model
    raise ValueError(
        f"{file_name} is neither an SDXL nor a FLUX.1 checkpoint; it looks like "
        f"{other or 'another model'}: give an SDXL or FLUX.1 base model"
    )


def _flux_model(unet: Mapping[str, Tensor]) -> FluxModel:
    """Return FLUX's layouts with the sizes the tensors have; pruned variants have fewer blocks."""
    hidden = unet["img_in.weight"].shape[0]
    model = specs.FLUX if hidden == specs.FLUX.unet.hidden else FluxModel()
    layout = replace(
        model.unet,
        hidden=hidden,
        double_blocks=_count(unet, "double_blocks"),
        single_blocks=_count(unet, "single_blocks"),
        guidance="guidance_in.in_layer.weight" in unet,
    )
    return replace(model, unet=layout)


def _count(weights: Mapping[str, Tensor], blocks: str) -> int:
    return len({name.split(".")[1] for name in weights if name.startswith(f"{blocks}.")})


def has_shapes(weights: Mapping[str, Tensor], shapes: Shapes) -> bool:
    """Return whether the weights hold every tensor of the shapes; they may hold more."""
    return all(n in weights and tuple(weights[n].shape) == s for n, s in shapes.items())


def _other_model(names: Iterable[str]) -> str | None:
    """Return what a file's tensor names tell of, if it is a model of another kind."""
    for name in names:
        for marker, model in _OTHERS.items():
            if marker in name:
                return model
    return None
