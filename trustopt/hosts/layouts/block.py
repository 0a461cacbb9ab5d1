"""One block of a network, named as LDM and as diffusers name it."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Block:
    """One resnet, transformer or resampling convolution of a network, under both its names."""

    kind: Literal["resnet", "transformer", "resample"]
    canonical: str
    """LDM path, ``input_blocks.4.1``."""
    diffusers: str
    """diffusers path, ``down_blocks.1.attentions.0``."""
    in_channels: int
    out_channels: int
    depth: int = 0
    """Blocks inside a transformer."""


def resnet(canonical: str, diffusers: str, in_channels: int, out_channels: int) -> Block:
    """Return a resnet."""
    return Block(
        kind="resnet",
        canonical=canonical,
        diffusers=diffusers,
        in_channels=in_channels,
        out_channels=out_channels,
    )


def transformer(canonical: str, diffusers: str, width: int, depth: int) -> Block:
    """Return a transformer, which keeps the width."""
    return Block(
        kind="transformer",
        canonical=canonical,
        diffusers=diffusers,
        in_channels=width,
        out_channels=width,
        depth=depth,
    )


def resample(canonical: str, diffusers: str, width: int) -> Block:
    """Return a convolution that halves or doubles the side and keeps the width."""
    return Block(
        kind="resample",
        canonical=canonical,
        diffusers=diffusers,
        in_channels=width,
        out_channels=width,
    )
