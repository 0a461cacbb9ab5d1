"""Mirrors trustopt/adapters/build.py, settings.py and adapter_set.py."""

import builtins
from typing import Any

import pytest
import torch
from torch import nn

from trustopt.adapters.build import build_adapters
from trustopt.adapters.settings import layer_settings, oft_block_size
from trustopt.adapters.targets import select_layers
from trustopt.config import AdapterConfig
from trustopt.host import LayerShape

ALGORITHMS = ["lora", "locon", "rslora", "dora", "loha", "lokr", "oft"]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def real_layer(shape: LayerShape, seed: int = 1) -> nn.Module:
    """A base layer with bias, as a host would hold it, without touching the global generator."""
    with torch.device("meta"):
        if shape.kind == "linear":
            layer: nn.Module = nn.Linear(shape.in_features, shape.out_features)
        else:
            layer = nn.Conv2d(
                shape.in_features,
                shape.out_features,
                shape.kernel_size,
                stride=shape.stride,
                padding=shape.padding,
            )
    layer.to_empty(device="cpu").requires_grad_(False)
    for parameter in layer.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator(seed)) * 0.2)
    return layer


def example_input(shape: LayerShape, seed: int = 2) -> torch.Tensor:
    size = (2, 5, shape.in_features)
    if shape.kind == "conv2d":
        size = (2, shape.in_features, 6, 6)
    return torch.randn(size, generator=generator(seed))


@pytest.fixture
def pair(make_table: Any) -> dict[str, LayerShape]:
    return make_table(
        ("input_blocks.4.1.proj_in", 24, 40), ("input_blocks.4.0.in_layers.2", 12, 20, 3)
    )


def disturb(adapters: Any, seed: int = 3, std: float = 0.1) -> None:
    """Give every factor a value, as training would."""
    source = generator(seed)
    with torch.no_grad():
        for parameter in adapters.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=source) * std)


@pytest.mark.parametrize(
    ("family", "config", "count"),
    [
        ("sdxl", AdapterConfig(rank=16), 42_557_440),
        ("flux", AdapterConfig(rank=16), 76_578_816),
    ],
)
def test_parameter_counts_at_full_size(
    request: Any, family: Any, config: AdapterConfig, count: int
) -> None:
    layers = select_layers(request.getfixturevalue(f"{family}_layers"), config, family)
    adapters = build_adapters(layers, config, generator(), device="meta")
    assert adapters.num_parameters == count


def test_text_encoder_parameter_counts(sdxl_layers: dict) -> None:
    config = AdapterConfig(rank=16, train_text_encoders=True, regex=r"^te\d\.")
    layers = select_layers(sdxl_layers, config, "sdxl")
    adapters = build_adapters(layers, config, generator(), device="meta")
    count = {
        te: sum(p.numel() for n, p in adapters.named_parameters() if n.startswith(te))
        for te in ("te1", "te2")
    }
    assert count == {"te1": 2_654_208, "te2": 11_796_480}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_starts_as_the_base_model(pair: dict, algorithm: Any) -> None:
    adapters = build_adapters(pair, AdapterConfig(algorithm=algorithm, rank=4), generator())
    for name, shape in pair.items():
        base, x = real_layer(shape), example_input(shape)
        adapters.layers[name].base_layer = base
        torch.testing.assert_close(adapters[name](x), base(x), rtol=0, atol=2e-6)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_parameter_trains(pair: dict, algorithm: Any) -> None:
    adapters = build_adapters(pair, AdapterConfig(algorithm=algorithm, rank=4), generator())
    disturb(adapters)
    assert all(p.dtype == torch.float32 and p.requires_grad for p in adapters.parameters())
    for name, shape in pair.items():
        adapters.layers[name].base_layer = real_layer(shape)
        adapters[name](example_input(shape)).square().mean().backward()
    for name, parameter in adapters.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_same_seed_same_weights_and_no_global_randomness(pair: dict, algorithm: Any) -> None:
    before = torch.random.get_rng_state()
    config = AdapterConfig(algorithm=algorithm, rank=4)
    first = build_adapters(pair, config, generator(7)).state_dict()
    second = build_adapters(pair, config, generator(7)).state_dict()
    for name, shape in pair.items():  # forwards draw nothing, either
        adapters = build_adapters(pair, config, generator(7))
        adapters.layers[name].base_layer = real_layer(shape)
        adapters[name](example_input(shape))
    assert torch.equal(before, torch.random.get_rng_state())
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_state_holds_adapters_only(pair: dict, algorithm: Any) -> None:
    adapters = build_adapters(pair, AdapterConfig(algorithm=algorithm, rank=4), generator())
    names = set(adapters.state_dict())
    for name, shape in pair.items():
        adapters.layers[name].base_layer = real_layer(shape)
    assert set(adapters.state_dict()) == names
    assert not any("base_layer" in name for name in names)
    base = {id(p) for layer in adapters.layers.values() for p in layer.base_layer.parameters()}
    assert not base & {id(p) for p in adapters.parameters()}
    adapters.release()
    assert all(layer.base_layer is None for layer in adapters.layers.values())


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_state_round_trip_and_zero_delta(pair: dict, algorithm: Any) -> None:
    config = AdapterConfig(algorithm=algorithm, rank=4)
    adapters = build_adapters(pair, config, generator())
    disturb(adapters)
    twin = build_adapters(pair, config, generator(99))
    twin.load_state_dict(adapters.state_dict())
    for name, shape in pair.items():
        x, base = example_input(shape), real_layer(shape)
        adapters.layers[name].base_layer = twin.layers[name].base_layer = base
        trained = adapters[name](x)
        assert not torch.allclose(trained, base(x), atol=1e-3)
        assert torch.equal(trained, twin[name](x))
        with adapters.disabled():
            assert torch.equal(adapters[name](x), base(x))
        assert torch.equal(adapters[name](x), trained)
    twin.zero_delta()
    for name, shape in pair.items():
        x = example_input(shape)
        base = twin.layers[name].base_layer
        torch.testing.assert_close(twin[name](x), base(x), rtol=0, atol=2e-6)


def test_state_of_another_rank_is_refused(pair: dict) -> None:
    small = build_adapters(pair, AdapterConfig(rank=2), generator())
    large = build_adapters(pair, AdapterConfig(rank=4), generator())
    with pytest.raises(ValueError, match="the saved state has another rank"):
        large.load_state_dict(small.state_dict())
    loha = build_adapters(pair, AdapterConfig(algorithm="loha", rank=4), generator())
    with pytest.raises(ValueError, match="the saved state is of other adapters"):
        loha.load_state_dict(large.state_dict())


def test_moving_leaves_the_base_where_it_is(pair: dict) -> None:
    adapters = build_adapters(pair, AdapterConfig(rank=4), generator())
    name, shape = next(iter(pair.items()))
    adapters.layers[name].base_layer = base = real_layer(shape)
    before = adapters.parameters()
    assert all(a is b for a, b in zip(before, adapters.to("cpu").parameters(), strict=True))
    assert all(p.device.type == "meta" for p in adapters.to("meta").parameters())
    assert adapters.layers[name].base_layer is base
    assert base.weight.device.type == "cpu"


def test_ranks_alphas_and_rates_by_block(make_table: Any) -> None:
    layers = make_table(
        ("double_blocks.0.img_attn.qkv", 64, 192), ("single_blocks.1.linear1", 64, 448)
    )
    config = AdapterConfig(
        rank=16, alpha=8.0, ranks={"single": 4}, alphas={"single": 2.0}, lr_scales={"img_": 0.5}
    )
    adapters = build_adapters(layers, config, generator())
    assert adapters.layers["single_blocks.1.linear1"].r["default"] == 4
    assert adapters.layers["single_blocks.1.linear1"].scaling["default"] == 0.5
    scales = {g["lr_scale"]: g["names"] for g in adapters.parameter_groups()}
    assert scales == {
        0.5: [
            "double_blocks.0.img_attn.qkv.lora_A.weight",
            "double_blocks.0.img_attn.qkv.lora_B.weight",
        ],
        1.0: ["single_blocks.1.linear1.lora_A.weight", "single_blocks.1.linear1.lora_B.weight"],
    }


def test_rank_larger_than_a_layer_is_refused(sdxl_layers: dict) -> None:
    layers = {
        "out.2": sdxl_layers["out.2"],
        "input_blocks.3.0.op": sdxl_layers["input_blocks.3.0.op"],
    }
    with pytest.raises(
        ValueError, match=r"rank 8 is larger than 1 of the 2 .* out\.2 allows at most 4"
    ):
        layer_settings(layers, AdapterConfig(conv_rank=8, regex="out|op"))
    capped = layer_settings(layers, AdapterConfig(conv_rank=8, conv_alpha=4.0, targets="full"))
    assert (capped["out.2"].rank, capped["out.2"].alpha) == (4, 2.0)


@pytest.mark.parametrize(("out", "largest", "size"), [(640, 16, 16), (640, 30, 20), (7, 4, 1)])
def test_oft_block_size_divides(out: int, largest: int, size: int) -> None:
    assert oft_block_size(out, largest) == size


def test_missing_peft_names_the_remedy(pair: dict, monkeypatch: Any) -> None:
    original = builtins.__import__

    def without_peft(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "peft":
            raise ImportError("No module named 'peft'")
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_peft)
    with pytest.raises(RuntimeError, match="-m pip install peft"):
        build_adapters(pair, AdapterConfig(rank=4), generator())
