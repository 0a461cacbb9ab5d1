"""The objective of a run: from clean latents to a loss a sample, in the network's own output space.

Training in x0 space instead would multiply the loss by sigma^2: 62 % of it would then fall on the
noisiest tenth of the timesteps. Letters: B batch, C latent channels, h w latent height and width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..config import ObjectiveConfig
from ..host import Prediction
from .losses import (
    debiased_weight,
    huber_width,
    min_snr_weight,
    per_sample_loss,
    signal_to_noise,
)
from .noising import add_noise, draw_noise, target_of
from .timesteps import (
    EDGE,
    StratifiedUniform,
    flux_shift,
    shift_levels,
    sigmoid_normal,
    uniform,
)

ZERO_TERMINAL_SIGMA = 1000.0
"""A last sigma above this marks a zero-terminal-SNR schedule (SDXL's own ends at 14.6)."""

PIXELS_PER_TOKEN = 4
"""Latent pixels an image token holds: FLUX packs 2 x 2."""


@dataclass(frozen=True, kw_only=True)
class Draw:
    """One noised batch, float32 on the CPU."""

    level: Tensor
    """Place of each noise level in the schedule ``(B,)``, 0 = clean, 1 = pure noise."""
    sigma: Tensor
    """``(B,)``"""
    noised: Tensor
    """``(B, C, h, w)``, as ``Host.denoise`` takes it."""
    target: Tensor
    """``(B, C, h, w)``, what ``Host.denoise`` should return."""


class Objective:
    """Draws noise levels, builds targets and weighs errors for one loaded model.

    Args:
        config: The user's settings.
        prediction: What the network outputs.
        sigmas: eps/v: the loaded model's levels, ascending ``(N,)``; flow: None.

    Raises:
        ValueError: If a setting cannot apply to this kind of model.
    """

    def __init__(
        self, config: ObjectiveConfig, *, prediction: Prediction, sigmas: Tensor | None
    ) -> None:
        self.config, self.prediction, self.sigmas = config, prediction, sigmas
        self.flow = prediction == "flow"
        if self.flow and config.weighting in ("min-snr", "debiased"):
            raise ValueError(
                f"weighting {config.weighting!r} is for eps and v models, and this one is a flow "
                "model: choose auto or none, or a timestep density"
            )
        if self.flow == (sigmas is not None):
            raise ValueError("sigmas belong to eps and v models, and only to them")
        if not self.flow and config.timesteps == "flux-shift":
            raise ValueError(
                "timesteps 'flux-shift' is for flow models, and this one predicts "
                f"{prediction}: choose auto, uniform, sigmoid, logit-normal or shifted"
            )
        self.stratified = StratifiedUniform()

    @property
    def zero_terminal_snr(self) -> bool:
        """Whether the schedule ends in pure noise."""
        return self.sigmas is not None and float(self.sigmas[-1]) > ZERO_TERMINAL_SIGMA

    def draw(self, latents: Tensor, generator: torch.Generator) -> Draw:
        """Noise a batch.

        Args:
            latents: Clean latents ``(B, C, h, w)`` float32 in the network's scale.
            generator: The run's CPU generator, the only source of randomness here.
        """
        level, noise, seen_noise = self._draw_noise(latents.shape, generator)
        return self.noised_at(latents, level, noise, seen_noise=seen_noise)

    def pass_over(self, shape: torch.Size, generator: torch.Generator) -> Tensor:
        """Draw what ``draw`` would for latents of a shape, and return the levels ``(B,)`` alone."""
        return self._draw_noise(shape, generator)[0]

    def _draw_noise(
        self, shape: torch.Size, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return levels ``(B,)``, the noise that is the target's, and that which is seen."""
        config = self.config
        if config.stratified:
            u = self.stratified.draw(shape[0], generator)
        else:
            u = uniform(shape[0], generator)
        level = self.level_of(u, image_tokens=shape[2] * shape[3] // PIXELS_PER_TOKEN)
        noise = draw_noise(
            shape,
            generator,
            offset=config.noise_offset,
            pyramid_levels=config.pyramid_levels,
            pyramid_discount=config.pyramid_discount,
        )
        seen_noise = noise
        if config.input_perturbation:
            # Ning et al. 2023, arXiv:2301.11706: the input is disturbed, the target is not.
            extra = torch.randn(shape, generator=generator)
            seen_noise = noise + config.input_perturbation * extra
        return level, noise, seen_noise

    def noised_at(
        self, latents: Tensor, level: Tensor, noise: Tensor, *, seen_noise: Tensor | None = None
    ) -> Draw:
        """Noise a batch at given levels ``(B,)`` with given noise; the validation loss uses it."""
        sigma = self.sigma_at(level)
        return Draw(
            level=level,
            sigma=sigma,
            noised=add_noise(
                latents, noise if seen_noise is None else seen_noise, sigma, self.prediction
            ),
            target=target_of(latents, noise, sigma, self.prediction),
        )

    def level_of(self, u: Tensor, *, image_tokens: int) -> Tensor:
        """Map uniform draws ``(B,)`` to places in the schedule by the chosen density."""
        config = self.config
        density = config.timesteps
        if density == "auto":
            density = "flux-shift" if self.flow else "uniform"
        if density == "uniform":
            level = u
        elif density == "shifted":
            level = shift_levels(u, config.shift)
        elif density == "flux-shift":
            level = shift_levels(sigmoid_normal(u), flux_shift(image_tokens))
        elif density == "sigmoid":
            level = sigmoid_normal(u)
        else:
            level = sigmoid_normal(u, mean=config.logit_mean, std=config.logit_std)
        return level.clamp(EDGE, 1.0 - EDGE)

    def sigma_at(self, level: Tensor) -> Tensor:
        """Return sigma ``(B,)`` float32: the level itself (flow) or its entry of the table."""
        if self.sigmas is None:
            return level.float()
        index = (level * len(self.sigmas)).long().clamp_max(len(self.sigmas) - 1)
        return self.sigmas[index].float()

    def losses(self, output: Tensor, draw: Draw, mask: Tensor | None = None) -> Tensor:
        """Return each sample's unweighted loss ``(B,)`` float32 on the output's device.

        Args:
            output: The network's raw output ``(B, C, h, w)``.
            draw: What it was asked.
            mask: ``(B, 1, h, w)`` in [0, 1], or None.
        """
        config = self.config
        if mask is not None and config.masked:
            mask = mask.clamp_min(config.unmasked_weight)
        else:
            mask = None
        return per_sample_loss(
            output,
            draw.target.to(output.device),
            loss=config.loss,
            c=huber_width(draw.sigma, config.huber_c, flow=self.flow),
            mask=mask,
        )

    def weights(self, draw: Draw) -> Tensor:
        """Return the weight of each sample's loss by its noise level, ``(B,)`` float32."""
        weighting = self.config.weighting
        if weighting == "auto":
            plain = self.flow or self.zero_terminal_snr
            weighting = "none" if plain else "min-snr"
        if weighting == "none":
            return torch.ones_like(draw.sigma)
        snr = signal_to_noise(draw.sigma, flow=self.flow)
        v_prediction = self.prediction == "v"
        if weighting == "debiased":
            return debiased_weight(snr, v_prediction=v_prediction)
        return min_snr_weight(snr, self.config.min_snr_gamma, v_prediction=v_prediction)

    def state_dict(self) -> dict[str, Tensor]:
        """Return what a resumed run needs to draw the same levels."""
        return self.stratified.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue from a ``state_dict``."""
        self.stratified.load_state_dict(state)
