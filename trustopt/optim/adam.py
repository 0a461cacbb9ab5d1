"""Adam without bias correction, in one pass over the memory where torch has a kernel for it."""

from collections.abc import Sequence

import torch
from torch import Tensor

NEVER_FIRST = 1e9  # a step count at which Adam's bias correction is 1 in any precision


def uncorrected_adam(
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    exp_avgs: Sequence[Tensor],
    exp_avg_sqs: Sequence[Tensor],
    *,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float = 0.0,
) -> None:
    """Advance both averages and set ``p = (1 - lr weight_decay) p - lr m / (sqrt(v) + eps)``.

    Args:
        params: Tensors of one dtype on one device, contiguous (modified in place).
        grads: Their gradients, of the same kind.
        exp_avgs: Running averages ``m`` of the gradients (modified in place).
        exp_avg_sqs: Running averages ``v`` of their squares (modified in place).
        lr: Step size.
        beta1: Decay rate of ``m``.
        beta2: Decay rate of ``v``.
        eps: Added to the root.
        weight_decay: Decoupled.
    """
    device = params[0].device
    if device.type in ("cpu", "cuda"):
        count = torch.full((), NEVER_FIRST, device=device)
        torch._fused_adamw_(
            params,
            grads,
            exp_avgs,
            exp_avg_sqs,
            [],
            [count] * len(params),
            lr=lr,
            beta1=beta1,
            beta2=beta2,
            weight_decay=weight_decay,
            eps=eps,
            amsgrad=False,
            maximize=False,
        )
        return
    torch._foreach_lerp_(exp_avgs, grads, 1.0 - beta1)
    torch._foreach_mul_(exp_avg_sqs, beta2)
    torch._foreach_addcmul_(exp_avg_sqs, grads, grads, value=1.0 - beta2)
    roots = torch._foreach_sqrt(exp_avg_sqs)
    torch._foreach_add_(roots, eps)
    torch._foreach_mul_(params, 1.0 - lr * weight_decay)
    torch._foreach_addcdiv_(params, exp_avgs, roots, value=-lr)
