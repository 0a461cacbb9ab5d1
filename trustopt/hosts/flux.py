"""Runs diffusers' FLUX transformer in the engine's noise convention."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..host import Conditioning, Prediction
from .layouts.flux import FluxLayout
from .names import flux_names

TIME_FACTOR = 1000.0
"""The network embeds a thousand times sigma and guidance."""


class FluxDenoiser:
    """A FLUX transformer.

    Args:
        network: diffusers' ``FluxTransformer2DModel``.
        layout: Its shape.
        flow_shift: The model's own mu.
    """

    pixel_multiple = 16
    prediction: Prediction = "flow"
    sigmas: Tensor | None = None

    def __init__(self, network: torch.nn.Module, layout: FluxLayout, *, flow_shift: float) -> None:
        self.network = network
        self.names = flux_names(layout)
        self.latent_channels = layout.latent_channels
        self.flow_shift: float | None = flow_shift
        self._guidance = layout.guidance

    def __call__(
        self, noised: Tensor, sigma: Tensor, conditioning: Conditioning, dtype: torch.dtype
    ) -> Tensor:
        """Return the velocity ``(B, 16, h, w)``; h and w must be even."""
        return self.run(self.inputs(noised, sigma, conditioning, dtype))

    def inputs(
        self, noised: Tensor, sigma: Tensor, conditioning: Conditioning, dtype: torch.dtype
    ) -> dict[str, Tensor]:
        """Return what the network takes, on the device of ``noised``.

        Raises:
            ValueError: If the prompts' lengths differ.
        """
        device, (height, width) = noised.device, noised.shape[-2:]
        prompts = conditioning.prompts
        lengths = {len(prompt["context"]) for prompt in prompts}
        if len(lengths) > 1:
            raise ValueError(
                f"FLUX prompts of one batch must have one length, got {sorted(lengths)} tokens: "
                "encode them all with the same T5 setting"
            )
        context = torch.stack([prompt["context"] for prompt in prompts])
        pooled = torch.stack([prompt["pooled"] for prompt in prompts])
        return {
            "noised": noised.to(dtype),
            "sigma": sigma,
            "guidance": torch.full_like(sigma, conditioning.guidance),
            "context": context.to(device, dtype),
            "pooled": pooled.to(device, dtype),
            "positions": patch_positions(height // 2, width // 2).to(device),
            "text_positions": torch.zeros(context.shape[1], 3, device=device),
        }

    def run(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Run the network on its ``inputs``."""
        sigma = inputs["sigma"]
        guidance = inputs["guidance"] if self._guidance else None
        exact = _ExactTime(sigma, guidance)
        handle = self.network.time_text_embed.register_forward_pre_hook(exact)  # pyright: ignore
        try:
            velocity = self.network(
                to_patches(inputs["noised"]),
                encoder_hidden_states=inputs["context"],
                pooled_projections=inputs["pooled"],
                timestep=sigma,
                guidance=guidance,
                img_ids=inputs["positions"],
                txt_ids=inputs["text_positions"],
                return_dict=False,
            )[0]
        finally:
            handle.remove()
        return from_patches(velocity, *inputs["noised"].shape[-2:])


class _ExactTime:
    """Gives the time embedding float32 values; diffusers rounds them to the network's dtype.

    In bfloat16 that moves sigma by up to 0.4 %, so noising and conditioning would disagree.
    """

    def __init__(self, sigma: Tensor, guidance: Tensor | None) -> None:
        self.exact = tuple(x * TIME_FACTOR for x in (sigma, guidance) if x is not None)

    def __call__(self, module: torch.nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (*self.exact, args[-1])


def to_patches(latents: Tensor) -> Tensor:
    """Return 2 x 2 patches in rows, ``(B, C, h, w)`` -> ``(B, h w / 4, 4 C)``."""
    batch, channels, height, width = latents.shape
    patches = latents.view(batch, channels, height // 2, 2, width // 2, 2)
    return patches.permute(0, 2, 4, 1, 3, 5).reshape(batch, -1, channels * 4)


def from_patches(patches: Tensor, height: int, width: int) -> Tensor:
    """Return latents ``(B, C, height, width)`` from ``(B, h w / 4, 4 C)``."""
    batch, _, channels = patches.shape
    latents = patches.view(batch, height // 2, width // 2, channels // 4, 2, 2)
    return latents.permute(0, 3, 1, 4, 2, 5).reshape(batch, channels // 4, height, width)


def patch_positions(rows: int, columns: int) -> Tensor:
    """Return index (0), row and column of every patch, ``(rows * columns, 3)`` float32."""
    grid = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).float()
    return torch.cat((torch.zeros(len(grid), 1), grid), 1)
