"""The matrices of a usual LoRA on full-size SDXL, without the model."""

from ..adapters import select_layers
from ..config import AdapterConfig
from ..host import LayerShape
from ..hosts.layouts.unet import SDXL_UNET
from ..hosts.shapes import unet_shapes

LAUNCH_BOUND = 8
"""Divisor of every dimension that leaves nothing to compute but launches."""


def lora_shapes(rank: int = 16, *, shrink: int = 1) -> list[tuple[int, int]]:
    """Return the shapes of a LoRA's matrices on the UNet, two a layer, in the order of the layers.

    Args:
        rank: Of the LoRA.
        shrink: Divides every dimension.
    """
    linears = {
        name.removesuffix(".weight"): LayerShape(
            kind="linear", in_features=shape[1], out_features=shape[0]
        )
        for name, shape in unet_shapes(SDXL_UNET).items()
        if len(shape) == 2
    }
    chosen = select_layers(linears, AdapterConfig(rank=rank), "sdxl")
    return [
        (rows // shrink, columns // shrink)
        for layer in chosen.values()
        for rows, columns in ((rank, layer.in_features), (layer.out_features, rank))
    ]
