r"""A LoRA on a frozen linear layer as one operation, forward and backward.

PEFT composes :math:`y = W x + s B (A x)` from a dozen operations: it copies the input to float32,
and autograd keeps that copy beside the one the layer's neighbours keep. Here the two products
are added in place to a result nobody else has seen, and backward adds in place to the base
layer's own gradient. What is kept is the input as it came, and ``rank`` numbers a token.

PEFT's own forward is the twin this is tested against, and what runs in every other case.
"""

from types import MethodType
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional


class FrozenMap(Protocol):
    """A linear layer whose weights are constants, called outside autograd.

    A base layer may have these methods itself; for a plain ``nn.Linear`` they are made here.
    """

    def constant_forward(self, x: Tensor) -> Tensor:
        """Map ``(..., in)`` to a new tensor ``(..., out)``."""
        ...

    def input_gradient(self, grad: Tensor, x: Tensor) -> Tensor:
        """Return the gradient of ``x``, a new tensor, from that of the output."""
        ...


class FrozenLinear:
    """``FrozenMap`` of an ``nn.Linear``."""

    def __init__(self, layer: nn.Linear) -> None:
        self.layer = layer

    def constant_forward(self, x: Tensor) -> Tensor:
        """Map ``(..., in)`` to ``(..., out)``."""
        return functional.linear(x, self.layer.weight, self.layer.bias)

    def input_gradient(self, grad: Tensor, x: Tensor) -> Tensor:
        """Return ``grad @ weight``."""
        return grad @ self.layer.weight


def use_fast_forward(layer: Any) -> None:
    """Let a PEFT LoRA layer for linear layers run in one operation wherever it can.

    Args:
        layer: PEFT's ``lora.Linear`` with the adapter ``default``, without dropout.
    """
    layer.forward = MethodType(_forward, layer)


def is_fast(layer: Any) -> bool:
    """Return whether an adapter layer runs in one operation over a plain frozen layer."""
    return "forward" in vars(layer)


def frozen_map(base: Any) -> FrozenMap | None:
    """Return a base layer's constant maps; None if it may train, or runs other code as well."""
    if hasattr(base, "input_gradient"):
        return base
    if type(base) is not nn.Linear or "forward" in base.__dict__:
        return None
    if base._forward_hooks or base._forward_pre_hooks or base._backward_hooks:
        return None
    trains = base.weight.requires_grad or (base.bias is not None and base.bias.requires_grad)
    return None if trains else FrozenLinear(base)


def _forward(layer: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    base = frozen_map(layer.base_layer)
    if base is None or args or kwargs or layer.disable_adapters or layer.merged:
        return type(layer).forward(layer, x, *args, **kwargs)
    copies = vars(layer).get("half_weights")  # see half_weights.py
    down, up = copies or (layer.lora_A["default"].weight, layer.lora_B["default"].weight)
    return FrozenLinearWithLora.apply(x, down, up, layer.scaling["default"], base)


class FrozenLinearWithLora(torch.autograd.Function):
    """``y = base(x) + scaling * (x @ down.T) @ up.T``, in the dtype of ``base(x)``.

    In half precision the products accumulate in float32 inside the matrix multiplication; the
    master weights ``down (r, in)`` and ``up (out, r)`` and their gradients stay float32.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, down: Tensor, up: Tensor, scaling: float, base: FrozenMap
    ) -> Tensor:
        """Map ``(..., in)`` to ``(..., out)``."""
        y = base.constant_forward(x).contiguous()
        ctx.base, ctx.scaling, ctx.master_dtypes = base, scaling, (down.dtype, up.dtype)
        down, up = down.to(y.dtype), up.to(y.dtype)
        hidden = _rows(x).to(y.dtype) @ down.T
        y.view(-1, y.shape[-1]).addmm_(hidden, up.T, alpha=scaling)
        ctx.save_for_backward(x, hidden, down, up)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of ``x``, ``down`` and ``up``."""
        x, hidden, down, up = ctx.saved_tensors
        needs_x, needs_down, needs_up, *_ = ctx.needs_input_grad
        down_dtype, up_dtype = ctx.master_dtypes
        rows = _rows(grad)
        grad_hidden = rows @ up
        grad_x = grad_down = grad_up = None
        if needs_up:
            grad_up = _scaled_product(rows.T, hidden, ctx.scaling).to(up_dtype)
        if needs_down:
            x_rows = _rows(x).to(grad.dtype)
            grad_down = _scaled_product(grad_hidden.T, x_rows, ctx.scaling).to(down_dtype)
        if needs_x:
            grad_x = ctx.base.input_gradient(grad, x).contiguous()
            grad_x.view(-1, x.shape[-1]).addmm_(
                grad_hidden.to(grad_x.dtype), down.to(grad_x.dtype), alpha=ctx.scaling
            )
        return grad_x, grad_down, grad_up, None, None


def _rows(x: Tensor) -> Tensor:
    return x.reshape(-1, x.shape[-1])


def _scaled_product(a: Tensor, b: Tensor, factor: float) -> Tensor:
    """Return ``factor * a @ b`` by one kernel; with ``beta=0`` what the memory held is ignored."""
    return a.new_empty(a.shape[0], b.shape[1]).addmm_(a, b, beta=0, alpha=factor)
