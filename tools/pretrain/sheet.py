"""Pictures side by side in one file."""

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

ZOOM = 2


def write_sheet(pixels: Tensor, columns: int, file: Path) -> None:
    """Write pixels ``(N, 3, H, W)`` in [0, 1], row by row; N is a multiple of ``columns``."""
    side = pixels.shape[-1]
    rows = [torch.cat(list(row), 2) for row in pixels.split(columns)]
    whole = (torch.cat(rows, 1).clamp(0.0, 1.0) * 255.0).round().to(torch.uint8)
    picture = Image.fromarray(whole.permute(1, 2, 0).numpy())
    size = (ZOOM * side * columns, ZOOM * side * len(rows))
    half = file.with_suffix(".part.png")
    picture.resize(size, Image.Resampling.NEAREST).save(half, optimize=True)
    half.replace(file)
