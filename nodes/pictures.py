"""Between ComfyUI's IMAGE, ``(B, H, W, C)`` float32 in [0, 1], and 8-bit arrays."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def to_image(pixels: np.ndarray) -> Tensor:
    """Return ``(H, W, 3)`` uint8 as an IMAGE of one picture."""
    return torch.from_numpy(pixels.astype(np.float32) / 255.0)[None]


def from_images(images: Sequence[Tensor]) -> list[np.ndarray]:
    """Return every picture of some IMAGEs, ``(H, W, C)`` float32; batches are taken apart."""
    return [picture.float().cpu().numpy() for image in images for picture in image]


def from_masks(masks: Sequence[Tensor]) -> list[np.ndarray]:
    """Return every mask of some MASKs ``(B, H, W)`` or ``(H, W)``, as ``(H, W)`` float32."""
    batches = [mask[None] if mask.ndim == 2 else mask for mask in masks]
    return [mask.float().cpu().numpy() for batch in batches for mask in batch]
