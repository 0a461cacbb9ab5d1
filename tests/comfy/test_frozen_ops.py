"""Each frozen layer against ComfyUI's own autograd, layer by layer."""

import functools

import comfy.ops
import pytest
import torch
import trustopt_test_models as tiny
from trustopt_pack.nodes.bridge.frozen_ops import (
    FrozenLayer,
    fetched,
    frozen_linear_map,
    frozen_norm,
)

CPU = torch.device("cpu")


def input_gradient(forward, x: torch.Tensor) -> torch.Tensor:
    x = x.clone().requires_grad_()
    y = forward(x)
    weights = torch.linspace(-1.0, 1.0, y.numel()).view(y.shape)
    return torch.autograd.grad((y * weights.to(y.dtype)).sum(), x)[0]


def ready(layer: torch.nn.Module) -> torch.nn.Module:
    """Fill a layer that ComfyUI leaves uninitialised; its weights are normal tensors."""
    tiny.initialise(layer, 0)
    return layer.requires_grad_(False)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (comfy.ops.disable_weight_init.Linear(6, 4), (2, 3, 6)),
        (comfy.ops.manual_cast.Linear(6, 4, bias=False), (3, 6)),
        (comfy.ops.disable_weight_init.Conv2d(3, 5, 3, stride=2, padding=1), (2, 3, 8, 8)),
        (comfy.ops.disable_weight_init.Conv2d(3, 5, 1), (2, 3, 4, 4)),
        (torch.nn.Linear(6, 4), (2, 6)),
    ],
    ids=["linear", "cast", "conv3x3", "conv1x1", "torch"],
)
def test_frozen_map_gives_autograds_gradient_and_saves_nothing(layer, shape) -> None:
    layer = ready(layer)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    frozen = frozen_linear_map(layer)

    torch.testing.assert_close(input_gradient(frozen, x), input_gradient(layer, x))

    saved = []
    with torch.autograd.graph.saved_tensors_hooks(saved.append, lambda t: t):
        frozen(x.clone().requires_grad_())
    assert saved == []


@pytest.mark.parametrize("own_input", [False, True])
@pytest.mark.parametrize(
    "layer",
    [
        comfy.ops.disable_weight_init.LayerNorm(8),
        comfy.ops.disable_weight_init.LayerNorm(8, elementwise_affine=False),
        comfy.ops.disable_weight_init.RMSNorm(8),
        comfy.ops.disable_weight_init.GroupNorm(2, 8),
    ],
    ids=["layer", "layer-plain", "rms", "group"],
)
def test_frozen_norm_gives_autograds_gradient(layer, own_input) -> None:
    layer = ready(layer)
    x = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(1))

    found = input_gradient(frozen_norm(layer, own_input=own_input), x)

    torch.testing.assert_close(found, input_gradient(layer, x))


class Doubled(comfy.ops.disable_weight_init.LayerNorm):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2.0 * super().forward(x)


def test_a_norm_of_another_kind_is_differentiated_as_it_is() -> None:
    layer, shadowed = (ready(kind(8)) for kind in (Doubled, torch.nn.LayerNorm))
    plain = shadowed.forward
    shadowed.forward = lambda x: 3.0 * plain(x)
    x = torch.randn(3, 8, generator=torch.Generator().manual_seed(1))

    for norm in (layer, shadowed):
        found = input_gradient(frozen_norm(norm, own_input=False), x)
        torch.testing.assert_close(found, input_gradient(norm, x))


def test_frozen_norm_survives_a_change_of_its_input() -> None:
    layer = comfy.ops.disable_weight_init.LayerNorm(8, elementwise_affine=False)
    x = torch.randn(3, 8, generator=torch.Generator().manual_seed(1))

    def adds_in_place(forward):
        def run(x: torch.Tensor) -> torch.Tensor:
            x = x * 1.0
            y = forward(x)
            x += 1.0
            return y * x

        return run

    found = input_gradient(adds_in_place(frozen_norm(layer, own_input=True)), x)
    torch.testing.assert_close(found, input_gradient(lambda x: layer(x) * (x + 1.0), x))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        input_gradient(adds_in_place(layer), x)


@pytest.mark.parametrize("storage", ["int8-quantised", "fp8-quantised"])
def test_quantised_layer_gives_comfyuis_own_gradient(storage) -> None:
    layer = tiny.build("flux", storage).model.diffusion_model.double_blocks[0].img_attn.qkv
    layer.weight = torch.nn.Parameter(layer.weight.clone(), requires_grad=False)
    layer.bias = torch.nn.Parameter(layer.bias.clone(), requires_grad=False)
    x = torch.randn(2, 3, 64, generator=torch.Generator().manual_seed(1))

    weight = layer.weight.dequantize()

    for smoothing in (torch.ones(64), torch.linspace(0.5, 2.0, 64)):
        layer.pre_quant_scale = smoothing
        found = input_gradient(frozen_linear_map(layer), x)
        if storage == "fp8-quantised":  # ComfyUI's int8 product has no gradient of its own
            torch.testing.assert_close(found, input_gradient(layer, x))
        plain = functools.partial(torch.nn.functional.linear, weight=weight * smoothing)
        torch.testing.assert_close(found, input_gradient(plain, x))


def test_float8_product_does_not_clamp_its_input() -> None:
    layer = ready(comfy.ops.fp8_ops.Linear(16, 16))
    layer.weight = torch.nn.Parameter(layer.weight.to(torch.float8_e4m3fn), requires_grad=False)
    x = torch.full((2, 16), 1000.0, requires_grad=True)

    frozen_linear_map(layer)(x)

    assert torch.equal(x, torch.full((2, 16), 1000.0))
    with torch.no_grad():
        layer(x)
    assert torch.equal(x, torch.full((2, 16), 448.0))


class PackedLinear(comfy.ops.manual_cast.Linear):
    """Keeps its weight in a format of its own, as GGUF's layers do."""

    def cast_bias_weight(self, input=None, dtype=None, device=None, bias_dtype=None):
        dtype, device = (input.dtype, input.device) if input is not None else (dtype, device)
        return (self.weight / 2.0).to(device, dtype), self.bias.to(device, bias_dtype or dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.linear(x, *self.cast_bias_weight(x))


def test_layer_with_its_own_format_unpacks_itself() -> None:
    layer = ready(PackedLinear(6, 4))
    x = torch.randn(2, 6, generator=torch.Generator().manual_seed(1))

    torch.testing.assert_close(
        input_gradient(frozen_linear_map(layer), x), input_gradient(layer, x)
    )
    with fetched(layer, dtype=torch.float32, device=CPU) as (weight, bias):
        assert torch.equal(weight, layer.weight / 2.0)
        assert torch.equal(bias, layer.bias)


def test_adapters_base_layer_shows_the_weight_and_holds_none() -> None:
    patcher = tiny.build("flux", "fp8")
    layer = patcher.model.diffusion_model.double_blocks[0].img_attn.qkv
    base = FrozenLayer(layer, layer.forward, CPU)

    assert list(base.parameters()) == []
    assert list(base.modules()) == [base]
    assert base.in_features == 64
    assert base.weight.dtype == torch.float32
    assert not base.weight.is_inference()
    assert torch.equal(base.weight, layer.weight.float())
    assert torch.equal(base.bias, layer.bias.float())
    with pytest.raises(AttributeError):
        _ = base.no_such_thing
