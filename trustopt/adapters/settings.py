"""Rank, alpha and learning-rate factor of each layer, from the job's settings."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from ..config import AdapterConfig
from ..host import LayerShape


@dataclass(frozen=True, kw_only=True)
class LayerSettings:
    """What one layer trains with, after the per-block overrides."""

    rank: int
    """Inner dimension; for OFT the size of a rotated block."""
    alpha: float
    lr_scale: float = 1.0


def layer_settings(
    layers: Mapping[str, LayerShape], config: AdapterConfig
) -> dict[str, LayerSettings]:
    """Return rank, alpha and lr factor of each layer.

    Raises:
        ValueError: If a rank is larger than a layer can use, unless the target is ``full``,
            whose tiny first and last layers get the largest rank they can use; or if OFT finds
            no blocks.
    """
    found: dict[str, LayerSettings] = {}
    too_large: list[tuple[str, int]] = []
    for name, shape in layers.items():
        is_conv = shape.kind == "conv2d" and shape.kernel_size != (1, 1)
        rank = int(_override(config.ranks, name, config.conv_rank if is_conv else config.rank))
        alpha = _override(config.alphas, name, config.conv_alpha if is_conv else config.alpha)
        limit = largest_rank(shape)
        if config.algorithm == "oft":
            rank = oft_block_size(shape.out_features, rank)
            if rank == 1:
                raise ValueError(
                    f"oft cannot rotate {name}: its {shape.out_features} outputs do not divide "
                    "into blocks of 2 up to the rank; raise the rank to at least 2, or leave it out"
                )
        elif rank > limit and config.algorithm != "lokr":
            if config.targets == "full" and not config.regex:
                alpha, rank = alpha * limit / rank, limit
            else:
                too_large.append((name, limit))
        lr_scale = _override(config.lr_scales, name, 1.0)
        found[name] = LayerSettings(rank=rank, alpha=alpha, lr_scale=lr_scale)
    if too_large:
        name, limit = min(too_large, key=lambda entry: entry[1])
        raise ValueError(
            f"rank {found[name].rank} is larger than {len(too_large)} of the {len(layers)} layers "
            f"can use: {name} allows at most {limit}; lower the rank, give that layer its own in "
            "ranks, or leave it out"
        )
    return found


def largest_rank(shape: LayerShape) -> int:
    """Return the rank above which a low-rank change of this layer gains nothing."""
    taps = shape.kernel_size[0] * shape.kernel_size[1]
    return min(shape.in_features * taps, shape.out_features)


def oft_block_size(out_features: int, largest: int) -> int:
    """Return the largest divisor of ``out_features`` that is at most ``largest`` and its root.

    No larger than the root, because LyCORIS's loader takes the smaller factor for the size.
    """
    bound = min(largest, math.isqrt(out_features))
    return next(size for size in range(bound, 0, -1) if out_features % size == 0)


def _override(table: Mapping[str, float], name: str, default: float) -> float:
    """Return the value of the first pattern found in ``name``."""
    return next((value for pattern, value in table.items() if re.search(pattern, name)), default)
