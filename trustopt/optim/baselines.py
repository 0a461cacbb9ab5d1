"""The known optimizers to compare with, each from the library that keeps it; imported when asked.

All take ``(params, lr, **options)``; a package that is not installed is an ImportError here.
"""

from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from .adamw import FusedAdamW


def adamw(
    params: ParamsT, lr: float, *, beta1: float, beta2: float, eps: float, weight_decay: float
) -> Optimizer:
    """Torch's AdamW, fused into one pass where every parameter's device has that kernel."""
    groups = list(params)
    tensors = [p for g in groups for p in (g["params"] if isinstance(g, dict) else [g])]
    settings = {"betas": (beta1, beta2), "eps": eps, "weight_decay": weight_decay}
    if all(p.device.type in ("cpu", "cuda") and p.is_floating_point() for p in tensors):
        return FusedAdamW(groups, lr, **settings)
    return torch.optim.AdamW(groups, lr, **settings)


def adamw8bit(
    params: ParamsT, lr: float, *, beta1: float, beta2: float, eps: float, weight_decay: float
) -> Optimizer:
    """Bitsandbytes' AdamW with 8-bit state."""
    import bitsandbytes

    return bitsandbytes.optim.AdamW8bit(
        params, lr=lr, betas=(beta1, beta2), eps=eps, weight_decay=weight_decay
    )


def lion(
    params: ParamsT, lr: float, *, beta1: float, beta2: float, weight_decay: float
) -> Optimizer:
    """lion-pytorch's Lion (Chen et al. 2023, arXiv:2302.06675)."""
    import lion_pytorch

    return lion_pytorch.Lion(params, lr=lr, betas=(beta1, beta2), weight_decay=weight_decay)


def adafactor(params: ParamsT, lr: float, *, weight_decay: float) -> Optimizer:
    """Torch's Adafactor (Shazeer and Stern 2018, arXiv:1804.04235) with an absolute step size.

    By default it scales the step by each tensor's size, which for a LoRA begins at 0. No size is
    above the bound of 1 given here, so lr means what it means for AdamW.
    """
    return torch.optim.Adafactor(params, lr=lr, eps=(None, 1.0), weight_decay=weight_decay)


def prodigy(
    params: ParamsT, lr: float, *, d_coef: float, weight_decay: float, use_bias_correction: bool
) -> Optimizer:
    """Prodigyopt's Prodigy (Mishchenko and Defazio 2023, arXiv:2306.06101); finds its own step."""
    import prodigyopt

    return prodigyopt.Prodigy(
        params,
        lr=lr,
        d_coef=d_coef,
        weight_decay=weight_decay,
        use_bias_correction=use_bias_correction,
        safeguard_warmup=True,
    )


def schedulefree(
    params: ParamsT,
    lr: float,
    *,
    beta1: float,
    beta2: float,
    weight_decay: float,
    warmup_steps: int,
) -> Optimizer:
    """Schedulefree's AdamW (Defazio et al. 2024, arXiv:2405.15682), in training mode."""
    import schedulefree as package

    optimizer: Any = package.AdamWScheduleFree(
        params, lr=lr, betas=(beta1, beta2), weight_decay=weight_decay, warmup_steps=warmup_steps
    )
    optimizer.train()
    return optimizer
