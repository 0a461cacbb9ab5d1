"""One batch forward and backward: first everything is made tensors on the device, then they run.

The two parts are apart so that the second, which is the same kernels at every step, can be
recorded once and launched as one: see ``graphs.py``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..data import Batch
from ..diffusion import Draw
from ..host import Conditioning, PreparedForward, part_of, under

if TYPE_CHECKING:
    from .loop import Run

Losses = tuple[Tensor, Tensor]
"""Losses times their weights, and losses without, each ``(B,)`` float32."""


@dataclass(frozen=True, kw_only=True)
class Backward:
    """A batch's forward and backward as a function of tensors on the device."""

    inputs: dict[str, Tensor]
    work: Callable[[Mapping[str, Tensor]], Losses]
    """Adds to the adapters' gradients; reads nothing but such inputs that changes between steps."""
    others: tuple[object, ...]
    """What ``work`` depends on besides the inputs: hashable."""

    def __call__(self) -> Losses:
        """Run the batch as it is."""
        return self.work(self.inputs)


def backward_of(run: "Run", batch: Batch, draw: Draw, weights: Tensor, divisor: float) -> Backward:
    """Bring one batch to the device.

    Args:
        run: Whose network and adapters it goes through.
        batch: The pictures.
        draw: Their noise.
        weights: ``(B,)``, what each picture's loss counts.
        divisor: What the mean loss is divided by before backward.
    """
    forward = run.host.prepare(draw.noised, draw.sigma, conditioning_of(run, batch))
    base: PreparedForward | None = None
    if batch.is_regularisation:
        # Prior preservation: such pictures should look to the LoRA as they do to the base model.
        with torch.no_grad(), run.adapters.disabled():
            base = run.host.prepare(draw.noised, draw.sigma, conditioning_of(run, batch))
    # A tensor is read at every replay; a Python number would be recorded.
    own = {"target": draw.target, "sigma": draw.sigma, "weights": weights}
    own["divisor"] = torch.tensor(divisor)
    if batch.masks is not None:
        own["mask"] = batch.masks
    inputs = {name: tensor.to(run.host.device) for name, tensor in own.items()}
    inputs |= under("forward", forward.inputs) | under("base", base.inputs if base else {})
    return Backward(
        inputs=inputs,
        work=partial(_forward_and_backward, run, draw, forward, base),
        others=(forward.others, base is not None and base.others, base is not None),
    )


def _forward_and_backward(
    run: "Run",
    draw: Draw,
    forward: PreparedForward,
    base: PreparedForward | None,
    inputs: Mapping[str, Tensor],
) -> Losses:
    with run.adapters.in_dtype(run.host.dtype):
        target = inputs["target"]
        if base is not None:
            with torch.no_grad(), run.adapters.disabled():
                target = base.run(part_of("base", inputs)).float()
        output = forward.run(part_of("forward", inputs))
        draw = replace(draw, target=target, sigma=inputs["sigma"])
        losses = run.objective.losses(output, draw, inputs.get("mask"))
        weighted = losses * inputs["weights"]
        (weighted.mean() / inputs["divisor"]).backward()
    return weighted.detach(), losses.detach()


def conditioning_of(run: "Run", batch: Batch) -> Conditioning:
    """Return what the network is told besides the noise level: prompts and geometry.

    Captions are encoded here only where the text encoders learn; otherwise the batch has prompts.
    """
    return Conditioning(
        prompts=batch.prompts or run.host.encode_prompts(batch.captions),
        geometry=batch.geometry,
        guidance=run.job.objective.guidance,
    )
