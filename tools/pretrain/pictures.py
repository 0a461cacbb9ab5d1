"""The Noto emoji pictures with their names, and what augmentation makes of them."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

SIDE = 64
"""Of the pictures, pixels."""
NOT_DRAWN = ("Flags", "Symbols", "Component")
"""Categories the denoiser does not learn: they differ in what latents of 8 x 8 cannot hold."""
JOINER = "200D"
"""In the code of an emoji put together from others; of people, these are the same in variants."""


@dataclass(frozen=True)
class Emoji:
    """Pictures and what they are called, in one order."""

    pixels: Tensor
    """``(N, 3, 64, 64)`` uint8, on white"""
    names: list[list[str]]
    """Each picture's name in lower case, then its other names"""
    drawn: list[int]
    """Indices of the pictures the denoiser learns"""


def read_emoji(package: Path) -> Emoji:
    """Read the unpacked npm package ``emoji-datasource-google``, without skin tones.

    Raises:
        ValueError: If there is no such package.
    """
    table = package / "emoji.json"
    if not table.is_file():
        raise ValueError(
            f"{table} does not exist: run npm pack emoji-datasource-google, unpack it, and give "
            "its folder package"
        )
    rows = [row for row in json.loads(table.read_text("utf-8")) if row["has_img_google"]]
    files = [package / "img" / "google" / "64" / row["image"] for row in rows]
    return Emoji(
        pixels=torch.stack([_pixels(file) for file in files]),
        names=[_names(row) for row in rows],
        drawn=[index for index, row in enumerate(rows) if _is_drawn(row)],
    )


def _pixels(file: Path) -> Tensor:
    """Return ``(3, 64, 64)`` uint8 on white."""
    with Image.open(file) as picture:
        drawn = picture.convert("RGBA")
    if drawn.size != (SIDE, SIDE):
        drawn = drawn.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    page = Image.new("RGBA", drawn.size, "white")
    page.alpha_composite(drawn)
    return torch.from_numpy(np.array(page.convert("RGB"))).permute(2, 0, 1)


def _is_drawn(row: dict) -> bool:
    variant = row["category"] == "People & Body" and JOINER in row["unified"]
    return row["category"] not in NOT_DRAWN and not variant


def _names(row: dict) -> list[str]:
    short = [name.replace("_", " ").replace("-", " ") for name in row["short_names"]]
    return list(dict.fromkeys([row["name"].lower(), *short]))


def augmented(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Return pixels ``(B, 3, 64, 64)`` float32 in [0, 1], each changed in its own way.

    Mirrored, moved, scaled, recoloured, or drawn as black lines: the autoencoder shall serve
    pictures of other styles, too, not the colours and shapes of one set alone.
    """
    count = len(pixels)

    def chance(share: float) -> Tensor:
        return (torch.rand(count, generator=generator) < share).view(-1, 1, 1, 1)

    ink = 1.0 - pixels.float() / 255.0
    ink = torch.where(chance(0.5), ink.flip(3), ink)
    ink = torch.where(chance(0.5), _moved(ink, generator), ink)
    order = torch.rand(count, 3, generator=generator).argsort(1)
    mixed = ink.gather(1, order.view(-1, 3, 1, 1).expand_as(ink))
    ink = torch.where(chance(0.4), mixed, ink)
    gain = 0.5 + torch.rand(count, 3, 1, 1, generator=generator)
    ink = torch.where(chance(0.4), (ink * gain).clamp(0.0, 1.0), ink)
    return 1.0 - torch.where(chance(0.1), _lines(ink), ink)


def _moved(ink: Tensor, generator: torch.Generator) -> Tensor:
    """Scale by 0.7 to 1.3 and move by up to an eighth of the side; white comes in."""
    count = len(ink)
    zoom = 0.75 + 0.7 * torch.rand(count, generator=generator)
    shift = 0.5 * torch.rand(count, 2, generator=generator) - 0.25
    matrix = torch.zeros(count, 2, 3)
    matrix[:, 0, 0] = matrix[:, 1, 1] = zoom
    matrix[:, :, 2] = shift
    grid = torch.nn.functional.affine_grid(matrix, list(ink.shape), align_corners=False)
    return torch.nn.functional.grid_sample(ink, grid, align_corners=False)


def _lines(ink: Tensor) -> Tensor:
    """Return the edges of a picture as black lines about two pixels wide."""
    grey = ink.mean(1, keepdim=True)
    padded = torch.nn.functional.pad(grey, (1, 1, 1, 1), mode="replicate")
    across = padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]
    down = padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]
    return (4.0 * (across.square() + down.square()).sqrt()).clamp(0.0, 1.0).expand_as(ink)
