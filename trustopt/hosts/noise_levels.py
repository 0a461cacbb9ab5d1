"""SDXL's table of noise levels."""

import torch
from torch import Tensor

NUM_TIMESTEPS = 1000
BETA_START, BETA_END = 0.00085, 0.012
LAST_ALPHA_BAR = 4.8973451890853435e-08
"""What stands for zero at the last step of a zero-terminal-SNR schedule, so that sigma is finite.

Source: ComfyUI 0.33.0 comfy/model_sampling.py; diffusers uses 2**-24, also about 5e-8.
"""


def sdxl_sigmas(*, zero_terminal_snr: bool = False) -> Tensor:
    r"""Return :math:`\sigma_t = \sqrt{(1 - \bar\alpha_t) / \bar\alpha_t}`, ascending, ``(1000,)``.

    Args:
        zero_terminal_snr: Shift and scale :math:`\sqrt{\bar\alpha}` so that the last is zero.

    Source:
        Rombach et al. 2022, "scaled linear" betas; Lin et al. 2024, arXiv:2305.08891, algorithm 1.
    """
    roots = torch.linspace(BETA_START**0.5, BETA_END**0.5, NUM_TIMESTEPS, dtype=torch.float64)
    alpha_bar = (1.0 - roots.square()).cumprod(0)
    if zero_terminal_snr:
        signal = alpha_bar.sqrt()
        signal = (signal - signal[-1]) * signal[0] / (signal[0] - signal[-1])
        alpha_bar = signal.square()
        alpha_bar[-1] = LAST_ALPHA_BAR
    return ((1.0 - alpha_bar) / alpha_bar).sqrt().float()


def nearest_timestep(sigma: Tensor, sigmas: Tensor) -> Tensor:
    """Return the index of the level nearest in log, ``(B,)`` int64.

    Args:
        sigma: ``(B,)`` float32, > 0.
        sigmas: The table, ``(1000,)``.
    """
    return (sigma.log()[:, None] - sigmas.to(sigma.device).log()).abs().argmin(1)
