"""Mirrors trustopt/adapters/adapter_set.py, factors.py and layers.py."""

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from trustopt.adapters import build_adapters
from trustopt.adapters.patch import merge
from trustopt.config import AdapterConfig
from trustopt.host import LayerShape

ALGORITHMS = ["lora", "locon", "rslora", "dora", "loha", "lokr", "oft"]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def layers(make_table: Any) -> dict[str, LayerShape]:
    return make_table(
        ("input_blocks.4.1.proj_in", 24, 40),
        ("input_blocks.4.0.in_layers.2", 12, 20, 3),
        ("input_blocks.4.0.skip_connection", 12, 20, 1),
    )


def run(weight: torch.Tensor, base: Any, x: torch.Tensor) -> torch.Tensor:
    if weight.ndim == 2:
        return F.linear(x, weight, base.bias)
    return F.conv2d(x, weight, base.bias, stride=base.stride, padding=base.padding)


@pytest.mark.parametrize("rank", [4, 11])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_patch_is_what_the_layer_computes(
    layers: dict, algorithm: Any, rank: int, trained: Any, make_base_layer: Any, make_input: Any
) -> None:
    """The trained forward equals a plain layer with the weight a loader makes of the file."""
    config = AdapterConfig(algorithm=algorithm, rank=rank, alpha=3.0, conv_alpha=2.0)
    adapters = trained(layers, config)
    patches = adapters.patches()
    for name, shape in layers.items():
        base, x = make_base_layer(shape), make_input(shape)
        adapters.layers[name].base_layer = base
        output = adapters[name](x)
        expected = run(merge(patches[name], base.weight), base, x)
        torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-5)
        assert (expected - base(x)).norm() > 2e-3 * expected.norm()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_state_holds_adapters_only(layers: dict, algorithm: Any, make_base_layer: Any) -> None:
    adapters = build_adapters(layers, AdapterConfig(algorithm=algorithm, rank=4), generator())
    names = set(adapters.state_dict())
    for name, shape in layers.items():
        adapters.layers[name].base_layer = make_base_layer(shape)
    assert set(adapters.state_dict()) == names
    assert not any("base_layer" in name for name in names)
    base = {id(p) for layer in adapters.layers.values() for p in layer.base_layer.parameters()}
    assert not base & {id(p) for p in adapters.parameters()}
    adapters.release()
    assert all(layer.base_layer is None for layer in adapters.layers.values())


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_state_round_trip_disabled_and_zero_delta(
    layers: dict, algorithm: Any, trained: Any, make_base_layer: Any, make_input: Any
) -> None:
    config = AdapterConfig(algorithm=algorithm, rank=4)
    adapters = trained(layers, config)
    twin = build_adapters(layers, config, generator(99))
    twin.load_state_dict(adapters.state_dict())
    for name, shape in layers.items():
        x, base = make_input(shape), make_base_layer(shape)
        adapters.layers[name].base_layer = twin.layers[name].base_layer = base
        output = adapters[name](x)
        assert not torch.allclose(output, base(x), atol=1e-3)
        assert torch.equal(output, twin[name](x))
        with adapters.disabled():
            assert torch.equal(adapters[name](x), base(x))
        assert torch.equal(adapters[name](x), output)
    assert all(parameter.requires_grad for parameter in adapters.parameters())
    twin.zero_delta()
    for name, shape in layers.items():
        x, base = make_input(shape), twin.layers[name].base_layer
        torch.testing.assert_close(twin[name](x), base(x), rtol=0, atol=4e-6)


def test_disabled_ends_with_an_exception(layers: dict) -> None:
    adapters = build_adapters(layers, AdapterConfig(rank=4), generator())
    with pytest.raises(KeyError), adapters.disabled():
        raise KeyError
    assert not any(layer.disable_adapters for layer in adapters.layers.values())


def test_state_of_another_rank_or_algorithm_is_refused(layers: dict) -> None:
    small = build_adapters(layers, AdapterConfig(rank=2), generator())
    large = build_adapters(layers, AdapterConfig(rank=4), generator())
    with pytest.raises(ValueError, match="the saved state has another rank"):
        large.load_state_dict(small.state_dict())
    loha = build_adapters(layers, AdapterConfig(algorithm="loha", rank=4), generator())
    with pytest.raises(ValueError, match="the saved state is of other adapters"):
        loha.load_state_dict(large.state_dict())


def test_moving_leaves_the_base_where_it_is(layers: dict, make_base_layer: Any) -> None:
    adapters = build_adapters(layers, AdapterConfig(rank=4), generator())
    name, shape = next(iter(layers.items()))
    adapters.layers[name].base_layer = base = make_base_layer(shape)
    before = adapters.parameters()
    assert all(a is b for a, b in zip(before, adapters.to("cpu").parameters(), strict=True))
    assert all(p.device.type == "meta" for p in adapters.to("meta").parameters())
    assert adapters.layers[name].base_layer is base
    assert base.weight.device.type == "cpu"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_run_continues_from_its_file(
    layers: dict, algorithm: Any, trained: Any, make_base_layer: Any, make_input: Any
) -> None:
    config = AdapterConfig(algorithm=algorithm, rank=4, alpha=3.0)
    other_scale = AdapterConfig(algorithm=algorithm, rank=4, alpha=8.0)
    adapters = trained(layers, config)
    continued = build_adapters(layers, other_scale, generator(5))
    assert continued.load_patches({**adapters.patches(), "out.2": None}) == ["out.2"]
    for name, shape in layers.items():
        base, x = make_base_layer(shape), make_input(shape)
        adapters.layers[name].base_layer = continued.layers[name].base_layer = base
        torch.testing.assert_close(continued[name](x), adapters[name](x), rtol=1e-4, atol=1e-5)


def test_a_lower_rank_fills_the_first_components(layers: dict, trained: Any) -> None:
    small = trained(layers, AdapterConfig(rank=2, conv_rank=2))
    large = build_adapters(layers, AdapterConfig(rank=6, conv_rank=6), generator(5))
    large.load_patches(small.patches())
    for name, patch in small.patches().items():
        weight = torch.zeros(patch.size()).reshape(merge_shape(layers[name]))
        torch.testing.assert_close(
            merge(large.patches()[name], weight), merge(patch, weight), rtol=1e-5, atol=1e-6
        )
        grown = large.tensors(name)["lora_A.weight"][2:]
        assert grown.abs().sum() > 0  # the new components can learn


def merge_shape(shape: LayerShape) -> tuple[int, ...]:
    base = (shape.out_features, shape.in_features)
    return base if shape.kind == "linear" else (*base, *shape.kernel_size)


@pytest.mark.parametrize(
    ("of_file", "of_run", "message"),
    [
        (AdapterConfig(rank=8), AdapterConfig(rank=4), "resize the file first"),
        (AdapterConfig(algorithm="loha", rank=4), AdapterConfig(rank=4), "the file holds loha"),
        (AdapterConfig(rank=4), AdapterConfig(algorithm="dora", rank=4), "the file holds lora"),
        (
            AdapterConfig(algorithm="loha", rank=2),
            AdapterConfig(algorithm="loha", rank=4),
            "train with the file's rank",
        ),
    ],
    ids=["larger rank", "algorithm", "dora", "loha rank"],
)
def test_what_cannot_be_continued_is_refused(
    layers: dict, of_file: AdapterConfig, of_run: AdapterConfig, message: str, trained: Any
) -> None:
    patches = trained(layers, of_file).patches()
    with pytest.raises(ValueError, match=f"cannot continue input_blocks.*{message}"):
        build_adapters(layers, of_run, generator()).load_patches(patches)


@pytest.mark.parametrize("algorithm", ["lora", "loha", "lokr"])
def test_norms_are_clamped_and_only_where_too_long(
    layers: dict, algorithm: Any, trained: Any
) -> None:
    free = trained(layers, AdapterConfig(algorithm=algorithm, rank=4)).delta_norms()
    bound = sorted(free.values())[1]  # one layer is longer than this
    adapters = trained(layers, AdapterConfig(algorithm=algorithm, rank=4, max_norm=bound * 1.001))
    assert adapters.clamp_norms() == 1
    for name, value in adapters.delta_norms().items():
        assert value == pytest.approx(min(free[name], bound * 1.001), rel=1e-4)
    assert trained(layers, AdapterConfig(algorithm=algorithm, rank=4)).clamp_norms() == 0


def test_autocast_leaves_dora_norms_exact(layers: dict, trained: Any, make_base_layer: Any) -> None:
    adapters = trained(layers, AdapterConfig(algorithm="dora", rank=4))
    for name, shape in layers.items():
        weight, layer = make_base_layer(shape).weight, adapters.layers[name]
        exact = layer.column_scale(weight)
        with torch.autocast("cpu", torch.bfloat16):
            torch.testing.assert_close(layer.column_scale(weight), exact)


def test_autocast_leaves_oft_rotations_exact(
    layers: dict, trained: Any, make_base_layer: Any, make_input: Any
) -> None:
    class Exact(torch.nn.Module):
        def __init__(self, layer: torch.nn.Module) -> None:
            super().__init__()
            self.layer, self.bias = layer, layer.bias

        @torch.autocast("cpu", enabled=False)
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x)

    adapters = trained(layers, AdapterConfig(algorithm="oft", rank=4))
    for name, shape in layers.items():
        adapters.layers[name].base_layer = Exact(make_base_layer(shape))
        exact = adapters[name](make_input(shape))
        with torch.autocast("cpu", torch.bfloat16):
            torch.testing.assert_close(adapters[name](make_input(shape)), exact)


def test_dora_needs_a_forward_before_it_is_saved(layers: dict) -> None:
    adapters = build_adapters(layers, AdapterConfig(algorithm="dora", rank=4), generator())
    with pytest.raises(ValueError, match="dora needs one forward pass"):
        adapters.patches()


def test_dora_column_norms_by_hand(make_table: Any, trained: Any) -> None:
    layers = make_table(("input_blocks.4.1.proj_in", 6, 5))
    adapters = trained(layers, AdapterConfig(algorithm="dora", rank=2, alpha=1.0))
    layer = adapters.layers["input_blocks.4.1.proj_in"]
    weight = layer.base_layer.weight
    merged = weight + 0.5 * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    expected = layer.magnitude * weight.norm(dim=0) / merged.norm(dim=0)
    torch.testing.assert_close(layer.column_scale(weight), expected)
