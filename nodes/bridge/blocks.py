"""Blocks of the network as training runs them: recomputed in backward, inputs left alone."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import comfy.ldm.flux.layers
import comfy.ldm.modules.attention
import comfy.ldm.modules.diffusionmodules.openaimodel
import comfy.model_management
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ...trustopt.host import Family

BLOCKS: dict[Family, tuple[type[nn.Module], ...]] = {
    "sdxl": (
        comfy.ldm.modules.diffusionmodules.openaimodel.ResBlock,
        comfy.ldm.modules.attention.BasicTransformerBlock,
    ),
    "flux": (
        comfy.ldm.flux.layers.DoubleStreamBlock,
        comfy.ldm.flux.layers.SingleStreamBlock,
    ),
}
"""What is checkpointed: the smallest units that take and give hidden states."""

ADDS_IN_PLACE: dict[Family, bool] = {"sdxl": False, "flux": True}
"""FLUX's blocks end in ``img += …``: right for sampling, wrong for what autograd has saved."""


@contextmanager
def in_training() -> Iterator[None]:
    """Tell ComfyUI to use differentiable kernels (FLUX's rotary embedding) inside the block."""
    before = comfy.model_management.in_training
    comfy.model_management.in_training = True
    try:
        yield
    finally:
        comfy.model_management.in_training = before


def training_block(
    block: nn.Module, *, adds_in_place: bool, checkpointing: Callable[[], bool]
) -> Callable[..., Any]:
    """Return a forward for a block that never changes its inputs and may be recomputed.

    Args:
        block: One of ``BLOCKS``.
        adds_in_place: Whether it changes its inputs, which are then cloned.
        checkpointing: Asked at each call: keep the block's inputs only, and run it again in
            backward? (Non-reentrant, so that adapters in the first block get gradients, too.)
    """
    plain = block.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return plain(*args, **kwargs)
        # The network goes on to write its next block's number into transformer_options; a
        # recomputation must read this block's.
        args, kwargs = _map_values(_snapshot, args, kwargs)
        if checkpointing():
            # Another pack's code in a block may draw, and must draw the same again. In a recording
            # nobody does, and no generator can be asked for its state.
            recorded = torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()
            return checkpoint(
                run, *args, use_reentrant=False, preserve_rng_state=not recorded, **kwargs
            )
        return run(*args, **kwargs)

    def run(*args: Any, **kwargs: Any) -> Any:
        if adds_in_place:
            args, kwargs = _map_values(_own, args, kwargs)
        with in_training():
            return plain(*args, **kwargs)

    return forward


def _map_values(
    function: Callable[[Any], Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return tuple(map(function, args)), {name: function(v) for name, v in kwargs.items()}


def _snapshot(value: Any) -> Any:
    return dict(value) if isinstance(value, dict) else value


def _own(value: Any) -> Any:
    is_float = isinstance(value, Tensor) and value.is_floating_point()
    return value.clone() if is_float else value
