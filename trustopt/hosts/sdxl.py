"""Runs diffusers' SDXL UNet in the engine's noise convention."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..host import Conditioning, Geometry, Prediction, Prompt
from .layouts.unet import UNetLayout
from .names import unet_names
from .noise_levels import nearest_timestep


class SDXLDenoiser:
    """An SDXL UNet with its noise levels.

    Args:
        network: diffusers' ``UNet2DConditionModel``.
        layout: Its shape.
        prediction: ``eps`` or ``v``.
        sigmas: Its noise levels, ascending, ``(1000,)`` float32.
    """

    pixel_multiple = 8
    flow_shift: float | None = None

    def __init__(
        self,
        network: torch.nn.Module,
        layout: UNetLayout,
        *,
        prediction: Prediction,
        sigmas: Tensor,
    ) -> None:
        self.network = network
        self.names = unet_names(layout)
        self.latent_channels = layout.latent_channels
        self.prediction: Prediction = prediction
        self.sigmas: Tensor | None = sigmas
        self._sigmas = sigmas

    def __call__(
        self, noised: Tensor, sigma: Tensor, conditioning: Conditioning, dtype: torch.dtype
    ) -> Tensor:
        """Return the raw output ``(B, 4, h, w)`` for variance-exploding ``noised``."""
        return self.run(self.inputs(noised, sigma, conditioning, dtype))

    def inputs(
        self, noised: Tensor, sigma: Tensor, conditioning: Conditioning, dtype: torch.dtype
    ) -> dict[str, Tensor]:
        """Return what the network takes, on the device of ``noised``."""
        device = noised.device
        scaled = noised * (sigma.square() + 1.0).rsqrt().view(-1, 1, 1, 1)
        context, pooled = stack_prompts(conditioning.prompts)
        return {
            "scaled": scaled.to(dtype),
            "timestep": nearest_timestep(sigma, self._sigmas),
            "context": context.to(device, dtype),
            "pooled": pooled.to(device, dtype),
            "time_ids": size_labels(conditioning.geometry).to(device),
        }

    def run(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Run the network on its ``inputs``."""
        return self.network(
            inputs["scaled"],
            inputs["timestep"],
            encoder_hidden_states=inputs["context"],
            added_cond_kwargs={"text_embeds": inputs["pooled"], "time_ids": inputs["time_ids"]},
            return_dict=False,
        )[0]


def size_labels(geometry: Sequence[Geometry]) -> Tensor:
    """Return the six numbers SDXL is told about each picture, ``(B, 6)`` float32.

    Original height and width, crop top and left, target height and width, in this order.
    """
    rows = [(*g.original[::-1], *g.crop[::-1], *g.target[::-1]) for g in geometry]
    return torch.tensor(rows, dtype=torch.float32)


def stack_prompts(prompts: Sequence[Prompt]) -> tuple[Tensor, Tensor]:
    """Return context ``(B, T, D)`` and pooled ``(B, P)`` of prompts of any lengths.

    Shorter ones are repeated up to the least common multiple of the lengths: attention over the
    same tokens n times is attention over them once.
    """
    length = math.lcm(*(len(prompt["context"]) for prompt in prompts))
    contexts = [p["context"].repeat(length // len(p["context"]), 1) for p in prompts]
    return torch.stack(contexts), torch.stack([prompt["pooled"] for prompt in prompts])
