"""How much memory a step's activations take, from the layers' shapes, before any step is run.

What autograd keeps of a layer grows with its tokens and widths, so one sum over the layers gives
it. The factors below were fitted to exact counts: ComfyUI's own SDXL and FLUX.1 at full size in
this trainer's session, run with tensors that have shapes and no memory, and flash attention.
tests/comfy/test_memory.py repeats the counts and states the error.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..adapters import AdapterSet
from ..adapters.fast_lora import is_fast
from ..adapters.targets import is_text_encoder
from ..host import Family, LayerShape

TEXT_TOKENS: dict[Family, int] = {"sdxl": 77, "flux": 512}
"""Tokens of a caption: one chunk of CLIP; T5's as FLUX.1-dev was trained."""

ADAPTED_INPUT = 1.04
"""Elements kept for one of an adapted layer's input."""

OUTPUT: dict[Family, float] = {"sdxl": 1.14, "flux": 1.44}
"""Elements kept for one of a layer's output; FLUX copies what its blocks change in place."""

MODULATED = 2 / 3
"""Elements kept for one of a FLUX modulation with an adapter, at each of the stream's tokens.

Two thirds of its outputs, the scales and the gates, need what they are multiplied by.
"""

RECOMPUTED = 1.6
"""What a block takes while it runs again and backward, over what it would keep."""

_BLOCK: dict[Family, re.Pattern[str]] = {
    "sdxl": re.compile(
        r"(\S+\.transformer_blocks\.\d+)\."
        r"|(\S+)\.(?:in_layers|emb_layers|out_layers|skip_connection)\b"
    ),
    "flux": re.compile(r"((?:double|single)_blocks\.\d+)\."),
}
"""How a layer's name tells the block that is recomputed with it; other layers are in none."""

_ENTRY = re.compile(r"attn1\.to_q$|in_layers\.2$|(img|txt)_attn\.qkv$|single_blocks\.\d+\.linear1$")
"""Layers whose inputs are as wide as their block's: what is kept of a checkpointed block."""

_MODULATION = re.compile(r"(_mod|modulation)\.lin$")
_TRUNK = ("input_blocks", "middle_block", "output_blocks", "double_blocks", "single_blocks")
_LAST = ("out", "final_layer")


@dataclass(frozen=True, kw_only=True)
class Workload:
    """One forward pass."""

    batch: int
    latent_area: int
    """Height times width of the latents."""
    itemsize: int
    """Bytes of an element of the activations."""


@dataclass
class _Unit:
    """What is kept of a block, or of a layer outside of any, in bytes."""

    is_block: bool
    inputs: float = 0.0
    everything: float = 0.0


def activation_bytes(
    layers: Mapping[str, LayerShape], adapters: AdapterSet, family: Family, work: Workload
) -> tuple[int, int]:
    """Return the most bytes of activations at once, without and with checkpointing.

    Args:
        layers: Every layer of the model by canonical name, see ``Host.layers``.
        adapters: The adapters; a layer without one keeps no input.
        family: Model family.
        work: Size of one forward pass.
    """
    units = _units(layers, adapters, family, work)
    plain = sum(unit.everything for unit in units)
    kept = recomputed = 0.0
    for unit in units:
        # Backward comes to a block when everything behind it is gone.
        kept += unit.inputs
        recomputed = max(recomputed, kept + RECOMPUTED * unit.everything * unit.is_block)
    copies = _half_weight_bytes(adapters, work)
    return round(plain + copies), round(min(plain, recomputed) + copies)


def _half_weight_bytes(adapters: AdapterSet, work: Workload) -> int:
    """Return what the adapters' copies in half precision take; see ``adapters/half_weights.py``."""
    if work.itemsize >= 4:
        return 0
    fast = [name for name, layer in adapters.items() if is_fast(layer)]
    return work.itemsize * sum(t.numel() for name in fast for t in adapters.tensors(name).values())


def token_counts(layers: Iterable[str], family: Family, latent_area: int) -> dict[str, int]:
    """Return how many rows each layer maps for one picture, by canonical name."""
    names = list(layers)
    if family == "flux":
        return {name: _flux_tokens(name, latent_area) for name in names}
    # Where the resolution halves, and where it doubles, by number of the block.
    down = _numbers(names, r"input_blocks\.(\d+)\.0\.op")
    up = _numbers(names, r"output_blocks\.(\d+)\.\d\.conv")
    return {name: _sdxl_tokens(name, latent_area, down, up) for name in names}


def _flux_tokens(name: str, latent_area: int) -> int:
    image, text = latent_area // 4, TEXT_TOKENS["flux"]
    if is_text_encoder(name):
        return TEXT_TOKENS["sdxl"]
    if name.startswith(("time_in", "vector_in", "guidance_in")) or _MODULATION.search(name):
        return 1
    return _stream_tokens(name, image, text)


def _stream_tokens(name: str, image: int, text: int) -> int:
    if name.startswith("single_blocks"):
        return image + text
    return text if "txt_" in name else image


def _sdxl_tokens(name: str, latent_area: int, down: list[int], up: list[int]) -> int:
    if is_text_encoder(name) or re.search(r"attn2\.to_[kv]$", name):
        return TEXT_TOKENS["sdxl"]
    if name.startswith(("time_embed", "label_emb")) or ".emb_layers." in name:
        return 1
    halved = 0
    if found := re.match(r"input_blocks\.(\d+)", name):
        halved = sum(number <= int(found[1]) for number in down)
    elif found := re.match(r"output_blocks\.(\d+)", name):
        at_end = name.endswith(".conv")  # it runs on what is doubled already
        halved = len(down) - sum(number < int(found[1]) + at_end for number in up)
    elif name.startswith("middle_block"):
        halved = len(down)
    return latent_area // 4**halved


def _units(
    layers: Mapping[str, LayerShape], adapters: AdapterSet, family: Family, work: Workload
) -> list[_Unit]:
    """Return blocks, and layers outside of blocks, in the order data passes them."""
    tokens = token_counts(layers, family, work.latent_area)
    units: dict[str, _Unit] = {}
    for name in sorted(layers, key=_position):
        found = _BLOCK[family].match(name)
        block = next((group for group in found.groups() if group), name) if found else name
        unit = units.setdefault(block, _Unit(is_block=found is not None))
        rows, shape = work.batch * tokens[name], layers[name]
        kept = OUTPUT[family] * rows * shape.out_features * work.itemsize
        if name in adapters:
            kept += _kept_for_adapter(name, adapters, shape, rows, work)
        unit.everything += kept
        if is_text_encoder(name):  # never recomputed
            unit.inputs += kept
        elif found is None or _ENTRY.search(name):
            unit.inputs += rows * shape.in_features * work.itemsize
    return list(units.values())


def _kept_for_adapter(
    name: str, adapters: AdapterSet, shape: LayerShape, rows: int, work: Workload
) -> float:
    fast = is_fast(adapters[name])
    # PEFT's own forward keeps a float32 copy of the input.
    kept = ADAPTED_INPUT * rows * shape.in_features * (work.itemsize if fast else 4)
    if _MODULATION.search(name):
        tokens = _stream_tokens(name, work.latent_area // 4, TEXT_TOKENS["flux"])
        kept += MODULATED * work.batch * tokens * shape.out_features * work.itemsize
    return kept


def _numbers(names: Iterable[str], pattern: str) -> list[int]:
    return [int(found[1]) for name in names if (found := re.fullmatch(pattern, name))]


def _position(name: str) -> tuple[int, list[int]]:
    """Return where a layer is: what comes before the numbered blocks, these, what comes after."""
    head = name.split(".", 1)[0]
    rank = _TRUNK.index(head) if head in _TRUNK else len(_TRUNK) if head in _LAST else -1
    return rank, [int(part) for part in name.split(".") if part.isdigit()]
