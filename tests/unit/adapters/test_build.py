"""Mirrors trustopt/adapters/build.py and settings.py."""

import builtins
from typing import Any

import pytest
import torch

from trustopt.adapters.build import build_adapters
from trustopt.adapters.settings import layer_settings, oft_block_size
from trustopt.adapters.targets import select_layers
from trustopt.config import AdapterConfig
from trustopt.host import LayerShape

ALGORITHMS = ["lora", "locon", "rslora", "dora", "loha", "lokr", "oft"]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def pair(make_table: Any) -> dict[str, LayerShape]:
    return make_table(
        ("input_blocks.4.1.proj_in", 24, 40), ("input_blocks.4.0.in_layers.2", 12, 20, 3)
    )


@pytest.mark.parametrize(
    ("family", "count"), [("sdxl", 42_557_440), ("flux", 76_578_816)], ids=["sdxl", "flux"]
)
def test_parameter_counts_at_full_size(request: Any, family: Any, count: int) -> None:
    config = AdapterConfig(rank=16)
    layers = select_layers(request.getfixturevalue(f"{family}_layers"), config, family)
    adapters = build_adapters(layers, config, generator(), device="meta")
    assert adapters.num_parameters == count


def test_text_encoder_parameter_counts(sdxl_layers: dict) -> None:
    config = AdapterConfig(rank=16, regex=r"^te\d\.")
    layers = select_layers(sdxl_layers, config, "sdxl")
    adapters = build_adapters(layers, config, generator(), device="meta")
    count = {
        te: sum(p.numel() for n, p in adapters.named_parameters() if n.startswith(te))
        for te in ("te1", "te2")
    }
    assert count == {"te1": 2_654_208, "te2": 11_796_480}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_starts_as_the_base_model(
    pair: dict, algorithm: Any, make_base_layer: Any, make_input: Any
) -> None:
    adapters = build_adapters(pair, AdapterConfig(algorithm=algorithm, rank=4), generator())
    for name, shape in pair.items():
        base, x = make_base_layer(shape), make_input(shape)
        adapters.layers[name].base_layer = base
        torch.testing.assert_close(adapters[name](x), base(x), rtol=0, atol=4e-6)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_parameter_trains(
    pair: dict, algorithm: Any, trained: Any, make_base_layer: Any, make_input: Any
) -> None:
    adapters = trained(pair, AdapterConfig(algorithm=algorithm, rank=4))
    assert all(p.dtype == torch.float32 and p.requires_grad for p in adapters.parameters())
    for name, shape in pair.items():
        adapters.layers[name].base_layer = make_base_layer(shape)
        adapters[name](make_input(shape)).square().mean().backward()
    for name, parameter in adapters.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_same_seed_same_weights_and_no_global_randomness(
    pair: dict, algorithm: Any, make_base_layer: Any, make_input: Any
) -> None:
    before = torch.random.get_rng_state()
    config = AdapterConfig(algorithm=algorithm, rank=4)
    first = build_adapters(pair, config, generator(7)).state_dict()
    adapters = build_adapters(pair, config, generator(7))
    second = adapters.state_dict()
    for name, shape in pair.items():  # forwards draw nothing, either
        adapters.layers[name].base_layer = make_base_layer(shape)
        adapters[name](make_input(shape))
    assert torch.equal(before, torch.random.get_rng_state())
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


@pytest.mark.parametrize("algorithm", ["loha", "lokr"])
def test_the_base_weight_is_not_read_where_it_need_not_be(
    pair: dict, algorithm: Any, make_base_layer: Any, make_input: Any
) -> None:
    class Streamed(torch.nn.Module):
        def __init__(self, layer: torch.nn.Module) -> None:
            super().__init__()
            self.__dict__["layer"] = layer

        @property
        def weight(self) -> torch.Tensor:
            raise AssertionError("a fetch of the whole weight in every forward")

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x)

    adapters = build_adapters(pair, AdapterConfig(algorithm=algorithm, rank=4), generator())
    for name, shape in pair.items():
        adapters.layers[name].base_layer = Streamed(make_base_layer(shape))
        adapters[name](make_input(shape)).mean().backward()


def test_gaussian_initialisation(make_table: Any) -> None:
    layers = make_table(("double_blocks.0.img_attn.proj", 512, 64))
    adapters = build_adapters(layers, AdapterConfig(rank=16, init="gaussian"), generator())
    down = adapters.tensors("double_blocks.0.img_attn.proj")["lora_A.weight"]
    assert float(down.detach().std()) == pytest.approx(1 / 16, rel=0.05)


def test_ranks_alphas_and_rates_by_block(make_table: Any) -> None:
    qkv, linear1 = "double_blocks.0.img_attn.qkv", "single_blocks.1.linear1"
    layers = make_table((qkv, 64, 192), (linear1, 64, 448))
    config = AdapterConfig(
        rank=16, alpha=8.0, ranks={"single": 4}, alphas={"single": 2.0}, lr_scales={"img_": 0.5}
    )
    adapters = build_adapters(layers, config, generator())
    assert adapters.tensors(qkv)["lora_A.weight"].shape == (16, 64)
    assert adapters.tensors(linear1)["lora_A.weight"].shape == (4, 64)
    assert adapters.layers[linear1].scaling["default"] == 0.5
    groups = {g["lr_scale"]: g["names"] for g in adapters.parameter_groups()}
    assert groups == {
        0.5: [f"{qkv}.lora_A.weight", f"{qkv}.lora_B.weight"],
        1.0: [f"{linear1}.lora_A.weight", f"{linear1}.lora_B.weight"],
    }


def test_rank_larger_than_a_layer_is_refused(sdxl_layers: dict) -> None:
    layers = {name: sdxl_layers[name] for name in ("out.2", "input_blocks.3.0.op")}
    config = AdapterConfig(conv_rank=8, regex="out|op")
    with pytest.raises(ValueError, match=r"rank 8 is larger than 1 of the 2 .*out\.2 .*at most 4"):
        layer_settings(layers, config)
    capped = layer_settings(layers, AdapterConfig(conv_rank=8, conv_alpha=4.0, targets="full"))
    assert (capped["out.2"].rank, capped["out.2"].alpha) == (4, 2.0)


@pytest.mark.parametrize(("out", "largest", "size"), [(640, 16, 16), (640, 30, 20), (7, 4, 1)])
def test_oft_block_size_divides(out: int, largest: int, size: int) -> None:
    assert oft_block_size(out, largest) == size


@pytest.mark.parametrize(("outputs", "rank"), [(7, 4), (8, 1)])
def test_oft_needs_blocks(make_table: Any, outputs: int, rank: int) -> None:
    with pytest.raises(ValueError, match=rf"oft cannot rotate img_in: its {outputs} outputs"):
        layer_settings(
            make_table(("img_in", 4, outputs)), AdapterConfig(algorithm="oft", rank=rank)
        )


@pytest.mark.parametrize("setting", ["dropout", "rank_dropout", "module_dropout", "max_norm"])
def test_oft_refuses_what_it_cannot_do(pair: dict, setting: str) -> None:
    config = AdapterConfig(algorithm="oft", rank=4, **{setting: 0.5})
    with pytest.raises(ValueError, match="oft has neither dropout nor a norm bound"):
        build_adapters(pair, config, generator())


@pytest.mark.parametrize(("installed", "state"), [(True, "is too old"), (False, "is missing")])
def test_missing_peft_names_the_remedy(
    pair: dict, installed: bool, state: str, monkeypatch: Any
) -> None:
    original = builtins.__import__

    def without_peft(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "peft":
            raise ImportError("no such name in transformers")
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_peft)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: installed or None)
    with pytest.raises(RuntimeError, match=f"peft {state}: run .* -m pip install --upgrade peft"):
        build_adapters(pair, AdapterConfig(rank=4), generator())


def test_lora_plus_speeds_up_the_matrices_that_begin_at_zero() -> None:
    name = "double_blocks.0.img_attn.qkv"
    layers = {name: LayerShape(kind="linear", in_features=8, out_features=8)}
    config = AdapterConfig(rank=2, alpha=2.0, lora_plus_ratio=16.0)
    adapters = build_adapters(layers, config, torch.Generator().manual_seed(0))

    groups = {g["lr_scale"]: g["names"] for g in adapters.parameter_groups()}

    assert groups == {1.0: [f"{name}.lora_A.weight"], 16.0: [f"{name}.lora_B.weight"]}
