"""A loaded MODEL, CLIP and VAE as the ``[model]`` table of a job file: where its files are."""

from pathlib import Path
from typing import Any

import folder_paths
import torch

from .host import ComfyHost

NAMES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}
"""Of the dtypes a job file knows."""

TINY = "tiny-"
"""Before the family in the name of the embedded demo model."""

USUAL_CLIP_LAYERS = {"sdxl": (None, -2), "flux": (None,)}
"""What CLIP Set Last Layer may say without changing the text encoders' output."""


def model_table(host: ComfyHost, model: Any, clip: Any, vae: Any) -> dict[str, Any]:
    """Return the keys of ``[model]`` for what the loaders made.

    Args:
        host: Over the three.
        model: MODEL.
        clip: CLIP.
        vae: VAE.

    Raises:
        ValueError: If something changed them after loading, or they were loaded from nothing that
            a job file can name; the message says what to disconnect.
    """
    refuse_changes(host.family, model, clip, vae)
    table: dict[str, Any] = {"family": host.family, "dtype": NAMES[host.dtype]}
    if host.model_name.startswith(TINY):
        return {"path": "tiny", **table}
    path, *_ = files_of("MODEL", model)
    files = files_of("CLIP", clip.patcher) + files_of("VAE", vae.patcher)
    others = list(dict.fromkeys(str(file) for file in files if file != path))
    return {
        "path": str(path),
        **({"files": others} if others else {}),
        "tokenizers": str(Path(folder_paths.base_path) / "comfy"),
        **table,
    }


def precision_note(host: ComfyHost, model: Any) -> str:
    """Return in what the weights differ from those the job trains on; empty if in nothing."""
    stored = {p.dtype for p in model.model.diffusion_model.parameters() if p.ndim > 1}
    other = sorted(str(dtype).removeprefix("torch.") for dtype in stored - {host.dtype})
    if not other:
        return ""
    return (
        f"the graph keeps weights in {', '.join(other)}, the job in {NAMES[host.dtype]}: its LoRA "
        "will be close to the graph's, not the same"
    )


def files_of(socket: str, patcher: Any) -> list[Path]:
    """Return the files that a loader read.

    Raises:
        ValueError: If it left none, or one that is no safetensors file.
    """
    loader = getattr(patcher, "cached_patcher_init", None)
    found = []
    for argument in loader[1] if loader else ():
        names = argument if isinstance(argument, (list, tuple)) else [argument]
        found += [Path(name) for name in names if isinstance(name, str) and Path(name).is_file()]
    if not found:
        raise ValueError(
            f"{socket} comes from a node that names no file, and a job file can only name files: "
            "load it with Load Checkpoint, Load Diffusion Model, DualCLIPLoader or Load VAE"
        )
    for file in found:
        if file.suffix != ".safetensors":
            raise ValueError(
                f"{socket} was loaded from {file.name}, and a job file names .safetensors files: "
                "load the model from such a file"
            )
    return found


def refuse_changes(family: str, model: Any, clip: Any, vae: Any) -> None:
    """Check that MODEL, CLIP and VAE are as their files say.

    Raises:
        ValueError: If a LoRA, a sampling setting or another patch was put on one.
    """
    patchers = {"MODEL": model, "CLIP": clip.patcher, "VAE": vae.patcher}
    for socket, patcher in patchers.items():
        changes = changes_of(patcher)
        if changes:
            raise ValueError(
                f"{socket} carries {changes}, which a job file cannot say: connect the loader's "
                "own output to Export Job, without the nodes between"
            )
    if clip.layer_idx not in USUAL_CLIP_LAYERS[family]:
        raise ValueError(
            f"CLIP stops at layer {clip.layer_idx}, which a job file cannot say: connect the "
            "loader's own CLIP to Export Job, without CLIP Set Last Layer"
        )


def changes_of(patcher: Any) -> str:
    """Return what was put on a loaded model, in words; empty for nothing."""
    transformer = patcher.model_options.get("transformer_options", {})
    replaced = patcher.object_patches.keys() - {"manual_cast_dtype"}  # a loader's own
    found = {
        "LoRAs or other weight patches": patcher.patches,
        "sampling settings or replaced parts": replaced,
        "injected layers": patcher.injections,
        "hooks": patcher.hook_patches or patcher.forced_hooks,
        "attention or block patches": {
            k: v for k, v in transformer.items() if k.startswith("patches") and v
        },
        "wrappers": any(patcher.wrappers.values()),
    }
    return " and ".join(words for words, is_there in found.items() if is_there)
