"""Layers by block of the model: where in the network a LoRA acts."""

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping

from .patch import LayerPatch, norm


def block_of(name: str) -> str:
    """Return the block a canonical layer is in: ``input_blocks.4``, ``middle_block``, ``te1.3``."""
    encoder = re.match(r"(te\d)\.text_model\.encoder\.layers\.(\d+)\.", name)
    if encoder:
        return f"{encoder[1]}.{encoder[2]}"
    numbered = re.match(r"\w+_blocks\.\d+", name)
    return numbered[0] if numbered else name.split(".", 1)[0]


def block_norms(patches: Mapping[str, LayerPatch]) -> dict[str, float]:
    """Return the Frobenius norm of each block's whole change, in the network's order."""
    return combine({name: norm(patch) for name, patch in patches.items()})


def combine(norms: Mapping[str, float]) -> dict[str, float]:
    """Return norms by block from norms by layer: the root of the sum of squares."""
    squares: dict[str, float] = defaultdict(float)
    for name, value in norms.items():
        squares[block_of(name)] += value**2
    return {block: math.sqrt(squares[block]) for block in in_order(squares)}


def in_order(blocks: Iterable[str]) -> list[str]:
    """Return blocks as data passes them: down, middle, up; double, single; then text encoders."""
    heads = ("input_blocks", "middle_block", "output_blocks", "double_blocks", "single_blocks")

    def position(block: str) -> tuple[int, str, int]:
        head, _, number = block.partition(".")
        rank = heads.index(head) if head in heads else len(heads) + head.startswith("te")
        return rank, head, int(number or 0)

    return sorted(blocks, key=position)
