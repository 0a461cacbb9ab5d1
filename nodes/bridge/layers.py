"""Layers that may carry an adapter, by canonical name.

ComfyUI builds both families with the module paths of the original repositories (LDM for SDXL, BFL
for FLUX), so a layer's path below ``diffusion_model`` is its canonical name. Its text encoders
have transformers' paths.
"""

from typing import Literal

from torch import nn

from ...trustopt.host import LayerShape


def kind_of(module: nn.Module) -> Literal["linear", "conv2d"] | None:
    """Return what a module computes, or None for what no adapter fits.

    ComfyUI's quantised Linear is no ``nn.Linear``, so the attributes decide.
    """
    if isinstance(module, nn.Conv2d):
        plain = module.groups == 1 and module.dilation == (1, 1) and module.padding_mode == "zeros"
        return "conv2d" if plain and not isinstance(module.padding, str) else None
    named_linear = "Linear" in type(module).__name__ and hasattr(module, "weight")
    is_linear = isinstance(module, nn.Linear) or named_linear
    return "linear" if is_linear and hasattr(module, "in_features") else None


def trainable_layers(diffusion_model: nn.Module) -> dict[str, LayerShape]:
    """Return every linear and 2-D convolution layer, in the order of the module tree.

    Adapters never enter the tree (see ``session``), so the answer is the same inside a session.
    """
    shapes = {name: shape_of(module) for name, module in diffusion_model.named_modules()}
    return {name: shape for name, shape in shapes.items() if shape is not None}


def text_encoder_paths(encoders: nn.Module | None) -> dict[str, str]:
    """Return the layers of SDXL's two text encoders: canonical name -> path below ``encoders``.

    Args:
        encoders: CLIP's ``cond_stage_model``; what is not SDXL's pair has no such layers.
    """
    if encoders is None or not (hasattr(encoders, "clip_l") and hasattr(encoders, "clip_g")):
        return {}
    paths = {}
    for name, part in (("te1", "clip_l"), ("te2", "clip_g")):
        for path, module in encoders.get_submodule(f"{part}.transformer").named_modules():
            if ".encoder.layers." in path and kind_of(module) == "linear":
                paths[f"{name}.{path}"] = f"{part}.transformer.{path}"
    return paths


def text_encoder_layers(encoders: nn.Module | None) -> dict[str, LayerShape]:
    """Return the shapes of the layers that ``text_encoder_paths`` names."""
    modules = dict(encoders.named_modules()) if encoders is not None else {}
    shapes = {name: shape_of(modules[p]) for name, p in text_encoder_paths(encoders).items()}
    return {name: shape for name, shape in shapes.items() if shape is not None}


def shape_of(module: nn.Module) -> LayerShape | None:
    """Return a layer's shape from its attributes: weights may be packed or not yet in memory."""
    kind = kind_of(module)
    if kind == "linear":
        return LayerShape(
            kind="linear", in_features=module.in_features, out_features=module.out_features
        )
    if kind == "conv2d":
        return LayerShape(
            kind="conv2d",
            in_features=module.in_channels,
            out_features=module.out_channels,
            kernel_size=tuple(module.kernel_size),
            stride=tuple(module.stride),
            padding=tuple(module.padding),
        )
    return None
