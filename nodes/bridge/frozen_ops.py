"""Frozen layers that keep no weights for backward.

Autograd saves a layer's weight to compute the gradient of its input. ComfyUI streams weights
through buffers it overwrites with the next layer's, stores them as float8 or quantised, and
creates them in inference mode: saved weights would be wrong, unusable or forbidden. So a frozen
layer saves none and fetches its weight again in backward, by ComfyUI's own cast.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import comfy.ops
import torch
from comfy.quant_ops import QuantizedTensor
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only

Forward = Callable[..., Tensor]


@contextmanager
def fetched(
    layer: nn.Module, *, dtype: torch.dtype, device: torch.device
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Lend a layer's weight and bias, dequantised, with merged LoRAs, valid inside the block.

    Args:
        layer: A linear or convolution layer of ComfyUI's (or of a pack that subclasses it).
        dtype: Floating dtype to return them in.
        device: Where to return them.
    """
    if hasattr(layer, "cast_bias_weight"):  # GGUF layers unpack their own format
        yield layer.cast_bias_weight(dtype=dtype, device=device, bias_dtype=dtype)
        return
    if not hasattr(layer, "weight_function"):  # a plain torch layer
        bias = None if layer.bias is None else layer.bias.to(device, dtype)
        yield layer.weight.to(device, dtype), bias
        return
    weight, bias, stream = comfy.ops.cast_bias_weight(
        layer, dtype=dtype, device=device, bias_dtype=dtype, offloadable=True
    )
    try:
        plain = weight.dequantize() if isinstance(weight, QuantizedTensor) else weight
        yield plain.to(dtype), bias
    finally:
        comfy.ops.uncast_bias_weight(layer, weight, bias, stream)


class FrozenLinearMap(torch.autograd.Function):
    """``y = layer(x)`` of a linear layer or convolution; backward gives ``x`` its gradient only."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: "FrozenForward") -> Tensor:
        ctx.layer, ctx.x_shape, ctx.x_dtype = layer, x.shape, x.dtype
        return layer.constant_forward(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return ctx.layer.gradient(grad, ctx.x_shape, ctx.x_dtype), None


class _NormalTensors(TorchFunctionMode):
    """Clones inference tensors on their way into differentiable operations."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.is_grad_enabled():
            args, kwargs = tree_map_only(Tensor, _normal, (args, kwargs))
        return func(*args, **kwargs)


def _normal(tensor: Tensor) -> Tensor:
    return tensor.clone() if tensor.is_inference() else tensor


class FrozenNorm(torch.autograd.Function):
    """``y = layer(x)`` of a normalisation layer, recomputed in backward for ``x``'s gradient.

    ``x`` is kept, cloned if ``own_input``: FLUX adds to it in place afterwards.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: nn.Module, forward: Forward, own_input: bool) -> Tensor:
        ctx.layer, ctx.norm = layer, forward
        ctx.save_for_backward(x.clone() if own_input else x)
        return forward(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (x,) = ctx.saved_tensors
        kernel = _norm_gradient(ctx.layer, ctx.norm)
        if kernel is not None:
            return kernel(ctx.layer, x, grad), None, None, None
        with torch.enable_grad(), _NormalTensors():
            x = x.detach().requires_grad_()
            y = ctx.norm(x)
        return torch.autograd.grad(y, x, grad)[0], None, None, None


def _layer_norm_gradient(layer: nn.LayerNorm, x: Tensor, grad: Tensor) -> Tensor:
    shape = layer.normalized_shape
    with _fetched_norm(layer, x) as (weight, bias):
        _, mean, rstd = torch.native_layer_norm(x, shape, weight, bias, layer.eps)
        return torch.ops.aten.native_layer_norm_backward(
            grad, x, shape, mean, rstd, weight, bias, [True, False, False]
        )[0]


def _group_norm_gradient(layer: nn.GroupNorm, x: Tensor, grad: Tensor) -> Tensor:
    x, sizes = x.contiguous(), (len(x), x.shape[1], x[0, 0].numel(), layer.num_groups)
    with _fetched_norm(layer, x) as (weight, bias):
        _, mean, rstd = torch.native_group_norm(x, weight, bias, *sizes, layer.eps)
        return torch.ops.aten.native_group_norm_backward(
            grad.contiguous(), x, mean, rstd, weight, *sizes, [True, False, False]
        )[0]


def _norm_gradient(
    layer: nn.Module, forward: Forward
) -> Callable[[Any, Tensor, Tensor], Tensor] | None:
    """Return torch's own kernels where ``forward`` is known to be the plain normalisation.

    Anything else is differentiated by running it again, which takes autograd twice as long.
    """
    own = type(layer).__module__ in ("comfy.ops", "torch.nn.modules.normalization")
    if not own or forward != type(layer).forward.__get__(layer):
        return None
    if isinstance(layer, nn.LayerNorm):
        return _layer_norm_gradient
    return _group_norm_gradient if isinstance(layer, nn.GroupNorm) else None


@contextmanager
def _fetched_norm(layer: Any, x: Tensor) -> Iterator[tuple[Tensor | None, Tensor | None]]:
    if layer.weight is None:
        yield None, None
        return
    with fetched(layer, dtype=x.dtype, device=x.device) as both:
        yield both


def needs_gradient(x: Tensor) -> bool:
    """Return whether autograd is to record what happens to ``x``."""
    return torch.is_grad_enabled() and x.requires_grad


class FrozenForward:
    """The forward of a linear layer or convolution that saves nothing for backward.

    A layer that quantises its input is differentiated as if it did not (straight through).
    """

    def __init__(self, layer: nn.Module) -> None:
        self.layer, self.plain = layer, layer.forward

    def __call__(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if args or kwargs:  # no caller of SDXL's or FLUX's layers passes more than x
            return self.plain(x, *args, **kwargs)
        if needs_gradient(x):
            return FrozenLinearMap.apply(x, self)
        with torch.no_grad():
            return self.plain(x)

    def constant_forward(self, x: Tensor) -> Tensor:
        """Run the layer outside autograd."""
        if isinstance(self.layer, comfy.ops.fp8_ops.Linear):
            x = x.clone()  # its float8 matmul clamps the input in place
        return self.plain(x)

    def gradient(self, grad: Tensor, shape: torch.Size, dtype: torch.dtype) -> Tensor:
        """Return the gradient of an input of ``shape`` from that of the output."""
        layer: Any = self.layer
        with fetched(layer, dtype=grad.dtype, device=grad.device) as (weight, _):
            if isinstance(layer, nn.Conv2d):
                grad_x = torch.nn.grad.conv2d_input(
                    shape,
                    weight,
                    grad,
                    layer.stride,
                    layer.padding,
                    layer.dilation,
                    layer.groups,
                )
            else:
                grad_x = grad @ weight
        smoothing = getattr(layer, "pre_quant_scale", None)
        if smoothing is not None:  # some 4-bit checkpoints scale a layer's input first
            grad_x = grad_x * smoothing.to(grad_x)
        return grad_x.to(dtype)


def frozen_linear_map(layer: nn.Module) -> FrozenForward:
    """Return a forward for a linear layer or convolution that saves nothing for backward."""
    return FrozenForward(layer)


def frozen_norm(layer: nn.Module, *, own_input: bool) -> Forward:
    """Return a forward for a normalisation layer that saves its input and nothing else."""
    plain = layer.forward

    def forward(x: Tensor) -> Tensor:
        return FrozenNorm.apply(x, layer, plain, own_input) if needs_gradient(x) else plain(x)

    return forward


def differentiable(forward: Forward) -> Forward:
    """Return another pack's forward, able to run its own small weights under autograd.

    A bypass LoRA's matrices are made in inference mode; autograd refuses to save such tensors.
    """

    def wrapped(*args: Any, **kwargs: Any) -> Tensor:
        if not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        with _NormalTensors():
            return forward(*args, **kwargs)

    return wrapped


class FrozenLayer(nn.Module):
    """What an adapter sees as its ``base_layer``: the real layer, outside the adapter's own tree.

    Calling it runs the layer as it stands in the model, other packs' hooks included. ``weight``
    and ``bias`` are fetched at each read (DoRA reads them), float32 on the compute device. Every
    other attribute is the real layer's.
    """

    def __init__(self, layer: nn.Module, forward: Forward, device: torch.device) -> None:
        super().__init__()
        # Not registered: the adapter's parameters and state dict must not hold the base model's.
        self.__dict__.update(layer=layer, layer_forward=forward, device=device)
        if isinstance(forward, FrozenForward) and not isinstance(layer, nn.Conv2d):
            # Nobody else runs code in between, so the adapter may do the layer's backward itself.
            self.__dict__.update(
                constant_forward=forward.constant_forward, input_gradient=self._input_gradient
            )

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return self.layer_forward(x, *args, **kwargs)

    def _input_gradient(self, grad: Tensor, x: Tensor) -> Tensor:
        return self.layer_forward.gradient(grad, x.shape, x.dtype)

    @property
    def weight(self) -> Tensor:
        """The weight as a copy that autograd may save."""
        with torch.no_grad(), fetched(self.layer, dtype=torch.float32, device=self.device) as both:
            return both[0].clone()

    @property
    def bias(self) -> Tensor | None:
        """The bias as a copy that autograd may save."""
        with torch.no_grad(), fetched(self.layer, dtype=torch.float32, device=self.device) as both:
            return None if both[1] is None else both[1].clone()

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.__dict__["layer"], name)
