"""Layers of the diffusion model that may carry an adapter, by canonical name.

ComfyUI builds both families with the module paths of the original repositories (LDM for SDXL, BFL
for FLUX), so a layer's path below ``diffusion_model`` is its canonical name.
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
