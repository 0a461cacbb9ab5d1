"""Torch's fused AdamW without its lists: a LoRA has thousands of small tensors.

Torch collects parameters, gradients and averages anew at every step, one tensor after the other,
and a fast GPU waits for that.
"""

from collections.abc import Callable
from dataclasses import dataclass
from operator import is_
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT


@dataclass(frozen=True, kw_only=True)
class Together:
    """Parameters of one group, one device and one dtype, with their state."""

    params: list[Tensor]
    exp_avgs: list[Tensor]
    exp_avg_sqs: list[Tensor]
    steps: list[Tensor]


class FusedAdamW(torch.optim.AdamW):
    """AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101), bit for bit torch's with ``fused``.

    The state is torch's, too: a checkpoint of either is one of the other.

    Args:
        params: Floating-point parameters on a CPU or a CUDA device, or groups of them.
        lr: Step size.
        betas: Decay rates of the averages of the gradient and of its square.
        eps: Added to the root.
        weight_decay: Decoupled; times lr.

    Raises:
        RuntimeError: If a parameter's device has no fused kernel.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, fused=True)
        # A gradient scaler must divide its scale out itself: the kernel is not told of it here.
        self._step_supports_amp_scaling = False
        self._kept: dict[int, tuple[list[Tensor], list[Together]]] = {}
        """Of each group by its place: who had a gradient, and their lists."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take another state, whose tensors are others than those in the lists."""
        super().__setstate__(state)
        self._kept = {}

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient.

        Args:
            closure: Computes loss and gradients first.

        Returns:
            What the closure returned; None without one.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for place, group in enumerate(self.param_groups):
            learning = [p for p in group["params"] if p.grad is not None]
            for together in self._lists(place, learning):
                _update(together, group)
        return loss

    def _lists(self, place: int, learning: list[Tensor]) -> list[Together]:
        before, lists = self._kept.get(place, ([], []))
        if len(before) != len(learning) or not all(map(is_, before, learning)):
            kinds: dict[Any, list[Tensor]] = {}
            for parameter in learning:
                kinds.setdefault((parameter.device, parameter.dtype), []).append(parameter)
            lists = [self._together(params) for params in kinds.values()]
            self._kept[place] = learning, lists
        return lists

    def _together(self, params: list[Tensor]) -> Together:
        states = [self._state_of(parameter) for parameter in params]
        return Together(
            params=params,
            exp_avgs=[state["exp_avg"] for state in states],
            exp_avg_sqs=[state["exp_avg_sq"] for state in states],
            steps=[state["step"] for state in states],
        )

    def _state_of(self, parameter: Tensor) -> dict[str, Tensor]:
        state: dict[str, Tensor] = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        return state


def _update(together: Together, group: dict[str, Any]) -> None:
    beta1, beta2 = group["betas"]
    torch._foreach_add_(together.steps, 1)
    torch._fused_adamw_(
        together.params,
        [p.grad for p in together.params],
        together.exp_avgs,
        together.exp_avg_sqs,
        [],
        together.steps,
        lr=group["lr"],
        beta1=beta1,
        beta2=beta2,
        weight_decay=group["weight_decay"],
        eps=group["eps"],
        amsgrad=False,
        maximize=False,
    )
