"""Mirrors trustopt/adapters/dropout.py."""

from typing import Any

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from trustopt.config import AdapterConfig
from trustopt.host import LayerShape


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def layers(make_table: Any) -> dict[str, LayerShape]:
    return make_table(
        ("input_blocks.4.1.proj_in", 24, 40), ("input_blocks.4.0.in_layers.2", 12, 20, 3)
    )


def build(
    trained: Any, make_base_layer: Any, layers: dict[str, LayerShape], **settings: Any
) -> Any:
    adapters = trained(layers, AdapterConfig(rank=4, conv_rank=4, **settings))
    for name, shape in layers.items():
        adapters.layers[name].base_layer = make_base_layer(shape)
    return adapters


KINDS = ["dropout", "rank_dropout", "module_dropout"]


@pytest.mark.parametrize("algorithm", ["lora", "dora", "loha", "lokr"])
@pytest.mark.parametrize("kind", KINDS)
def test_off_outside_its_block_and_drawn_from_the_generator_inside(
    layers: dict, algorithm: Any, kind: str, trained: Any, make_base_layer: Any, make_input: Any
) -> None:
    plain = build(trained, make_base_layer, layers, algorithm=algorithm)
    adapters = build(trained, make_base_layer, layers, algorithm=algorithm, **{kind: 0.5})
    before = torch.random.get_rng_state()
    for name, shape in layers.items():
        x = make_input(shape)
        torch.testing.assert_close(adapters[name](x), plain[name](x), rtol=1e-6, atol=1e-6)
        outputs = []
        for seed in (1, 1, 2, 3, 4, 5, 6, 7):
            with adapters.dropout(generator(seed)):
                outputs.append(adapters[name](x).detach())
        assert torch.equal(outputs[0], outputs[1])
        assert any(not torch.equal(outputs[0], other) for other in outputs[2:])
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("kind", KINDS)
def test_checkpointing_recomputes_with_the_same_masks(
    layers: dict, kind: str, trained: Any, make_base_layer: Any, make_input: Any
) -> None:
    adapters = build(trained, make_base_layer, layers, **{kind: 0.5})

    def gradients(*, recompute: bool) -> list[torch.Tensor]:
        loss = torch.zeros(())
        for seed in range(6):
            for name, shape in layers.items():
                x = make_input(shape).requires_grad_()
                with adapters.dropout(generator(seed)):
                    run = adapters[name]
                    out = checkpoint(run, x, use_reentrant=False) if recompute else run(x)
                    (loss + out.square().mean()).backward()
        found = [p.grad.clone() for p in adapters.parameters()]
        for parameter in adapters.parameters():
            parameter.grad = None
        return found

    for plain, recomputed in zip(
        gradients(recompute=False), gradients(recompute=True), strict=True
    ):
        torch.testing.assert_close(plain, recomputed)


@pytest.mark.parametrize("kind", ["dropout", "rank_dropout"])
def test_the_mean_over_masks_is_the_undropped_output(
    layers: dict, kind: str, trained: Any, make_base_layer: Any, make_input: Any
) -> None:
    adapters = build(trained, make_base_layer, layers, **{kind: 0.3})
    source = generator(8)
    for name, shape in layers.items():
        x = make_input(shape)
        with torch.no_grad():
            base = adapters.layers[name].base_layer(x)
            change = adapters[name](x) - base
            total = torch.zeros_like(change)
            for _ in range(150):
                with adapters.dropout(source):
                    total += adapters[name](x) - base
        error = (total / 150 - change).norm() / change.norm()
        assert error < 0.16  # the deviation of one mask is 0.65, of 150 it is 0.053


def test_a_dropped_module_is_the_base_model(
    layers: dict, trained: Any, make_base_layer: Any, make_input: Any
) -> None:
    adapters = build(trained, make_base_layer, layers, module_dropout=0.5)
    name, shape = next(iter(layers.items()))
    x, base = make_input(shape), adapters.layers[name].base_layer
    dropped = 0
    source = generator(3)
    for _ in range(200):
        with adapters.dropout(source):
            dropped += torch.equal(adapters[name](x), base(x))
    assert 70 < dropped < 130  # 100 expected, deviation 7


def test_nothing_is_drawn_without_dropout(layers: dict, trained: Any, make_base_layer: Any) -> None:
    adapters = build(trained, make_base_layer, layers)
    source = generator(4)
    before = source.get_state()
    with adapters.dropout(source):
        pass
    assert torch.equal(before, source.get_state())
