"""The two adapter layers PEFT has no exact twin for, assembled from parts PEFT builds.

Both read their base layer in every forward: DoRA its ``weight``, OFT its ``bias``. A host whose
weights are quantised, offloaded or patched gives the adapter a ``base_layer`` on which these two
are properties that fetch them, in a floating dtype on the compute device.
"""

from typing import Any

import torch
from torch import Tensor, nn

ZERO_FACTORS = frozenset({"lora_B", "hada_w2_b", "lokr_w1", "lokr_w1_a", "oft_R"})
"""The factor of each algorithm that is zero at the start, so that the layer changes nothing."""


class DoraLayer(nn.Module):
    r"""Weight-decomposed LoRA: the direction learns as LoRA, the length of each column apart.

    .. math::
        W' = (W + s B A) \, \mathrm{diag}\!\left(
            \mu \, \frac{\lVert W \rVert_c}{\lVert W + s B A \rVert_c} \right)

    with norms over each input channel's column. ``diag`` scales the input, so the layer is LoRA
    fed with a rescaled input, and the base layer's bias stays out of it. As in the paper's
    section 4.3 the denominator gets no gradient.

    The columns are the inputs, not the outputs PEFT's own DoRA uses, because only that file form
    (``dora_scale`` of shape ``(1, in)``) means the same to every loader: ComfyUI divides output
    columns by the norm of W alone, and A1111 reads no other form. The magnitude is relative to
    the base's norms: it starts at one, and one learning rate fits every layer.

    Source:
        Liu et al. 2024, "DoRA: Weight-Decomposed Low-Rank Adaptation", arXiv:2402.09353.
    """

    def __init__(self, tuner: Any) -> None:
        """Take over the matrices of a PEFT LoRA layer."""
        super().__init__()
        self.lora_A = tuner.lora_A
        self.lora_B = tuner.lora_B
        self.lora_dropout = tuner.lora_dropout
        self.scaling: dict[str, float] = tuner.scaling
        self.magnitude = nn.Parameter(torch.empty(tuner.in_features, device="meta"))
        self.base_norm: Tensor
        self.register_buffer("base_norm", torch.empty(tuner.in_features, device="meta"))
        self.base_layer: nn.Module | None = None
        self.active = True
        self._file_scale: Tensor | None = None

    def enable_adapters(self, enabled: bool) -> None:
        """Let the layer act, or be the base layer alone."""
        self.active = enabled

    def dora_scale(self) -> Tensor:
        """Return the absolute magnitude as files hold it, ``(1, in)`` or ``(1, in, 1, 1)``.

        Raises:
            ValueError: If no forward has measured the base layer yet.
        """
        if not bool(self.base_norm.any()):
            raise ValueError("dora needs one forward pass before it can be saved: train a step")
        shape = (1, -1, 1, 1) if self.lora_A["default"].weight.ndim == 4 else (1, -1)
        return (self.magnitude.detach() * self.base_norm).view(shape)

    def start_from(self, dora_scale: Tensor) -> None:
        """Take the magnitude of a file; it becomes relative at the next forward.

        Raises:
            ValueError: If it scales outputs: only input columns are trained here.
        """
        if dora_scale.numel() != self.magnitude.numel() or dora_scale.shape[0] != 1:
            raise ValueError(
                f"the file's dora_scale is {tuple(dora_scale.shape)}, which scales outputs; "
                f"only (1, {self.magnitude.numel()}), over inputs, can be continued"
            )
        self._file_scale = dora_scale.flatten().float()

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Run the adapted layer on ``(..., in)``, or ``(B, in, H, W)`` for a convolution."""
        assert self.base_layer is not None, "a host puts the base layer in before the forward"
        if not self.active:
            return self.base_layer(x, *args, **kwargs)
        lora_a, lora_b = self.lora_A["default"], self.lora_B["default"]
        scale = self.column_scale(self.base_layer.weight)  # type: ignore[arg-type]
        if lora_a.weight.ndim == 4:
            scale = scale[:, None, None]
        scaled = x.to(lora_a.weight.dtype) * scale
        base = self.base_layer(scaled.to(x.dtype), *args, **kwargs)
        change = lora_b(lora_a(self.lora_dropout["default"](scaled))) * self.scaling["default"]
        return (base + change).to(base.dtype)

    def column_scale(self, weight: Tensor) -> Tensor:
        """Return what each input channel is multiplied by, ``(in,)`` float32.

        Args:
            weight: The base layer's weight, ``(out, in)`` or ``(out, in, kh, kw)``.
        """
        with torch.no_grad(), torch.autocast(weight.device.type, enabled=False):
            base_norm, merged_norm = self._norms(weight.to(self.magnitude.device))
            self.base_norm.copy_(base_norm)
            if self._file_scale is not None:
                self.magnitude.copy_(self._file_scale.to(base_norm.device) / base_norm)
                self._file_scale = None
            ratio = base_norm / merged_norm.clamp_min(torch.finfo(torch.float32).eps)
        return self.magnitude * ratio

    def _norms(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Column norms of W and of W + sBA, without forming BA: products with r rows only."""
        scaling = self.scaling["default"]
        base = weight.float().flatten(2) if weight.ndim == 4 else weight.float().unsqueeze(2)
        up = self.lora_B["default"].weight.flatten(1)
        down = self.lora_A["default"].weight.reshape(up.shape[1], *base.shape[1:])
        base_square = base.square().sum((0, 2))
        cross = (down * torch.einsum("or,oik->rik", up, base)).sum((0, 2))
        square = (down * torch.einsum("rs,sik->rik", up.T @ up, down)).sum((0, 2))
        merged_square = base_square + 2.0 * scaling * cross + scaling**2 * square
        return base_square.sqrt(), merged_square.clamp_min(0.0).sqrt()


class OftLayer(nn.Module):
    r"""Orthogonal fine-tuning: rotates blocks of the output channels, ``W' = R^T W``.

    R is block-diagonal, each block the Cayley transform of a skew-symmetric matrix, computed
    exactly. PEFT's own OFT layer rotates the *input*, which no diffusion loader can read; this
    one applies PEFT's rotation module to the output, less its bias: the form of LyCORIS
    Diag-OFT, which ComfyUI loads as ``oft_blocks``.

    Source:
        Qiu et al. 2023, "Controlling Text-to-Image Diffusion by Orthogonal Finetuning",
        arXiv:2306.07280; ComfyUI 0.33.0 comfy/weight_adapter/oft.py for the file form.
    """

    def __init__(self, tuner: Any, *, convolution: bool) -> None:
        """Take over the rotation of a PEFT OFT layer built for ``out`` input features."""
        super().__init__()
        self.oft_R = tuner.oft_R
        self.channel_dim = 1 if convolution else -1
        self.base_layer: nn.Module | None = None
        self.active = True

    def enable_adapters(self, enabled: bool) -> None:
        """Let the layer act, or be the base layer alone."""
        self.active = enabled

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Run the adapted layer on ``(..., in)``, or ``(B, in, H, W)`` for a convolution."""
        assert self.base_layer is not None, "a host puts the base layer in before the forward"
        base = self.base_layer(x, *args, **kwargs)
        if not self.active:
            return base
        rotation = self.oft_R["default"]
        own: Any = self.base_layer.bias
        bias = (
            base.new_zeros((), dtype=torch.float32) if own is None else own.to(base.device).float()
        )
        channels_last = base.movedim(self.channel_dim, -1).float() - bias
        # A rotation near one in half precision would round the base's own output.
        with torch.autocast(base.device.type, enabled=False):
            # PEFT's module unfolds a 4-D input as a picture, so all but channels is one axis.
            rotated = rotation(channels_last.flatten(0, -2)).view_as(channels_last) + bias
        return rotated.movedim(-1, self.channel_dim).to(base.dtype)
