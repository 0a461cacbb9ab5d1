"""The one-operation LoRA against PEFT's own layer."""

from types import MethodType
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from trustopt.adapters import build_adapters
from trustopt.adapters.fast_lora import frozen_map
from trustopt.config import AdapterConfig
from trustopt.host import LayerShape
from trustopt.hosts.fused import FusedLinear

NAME = "double_blocks.0.img_mlp.0"
Step = tuple[torch.Tensor, dict[str, torch.Tensor]]


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def adapter(inputs: int, outputs: int, **settings: Any) -> Any:
    """A LoRA layer as the engine builds it, with both factors away from zero, without a base."""
    shape = LayerShape(kind="linear", in_features=inputs, out_features=outputs)
    config = AdapterConfig(**{"rank": 3, "alpha": 5.0, **settings})
    layer: Any = build_adapters({NAME: shape}, config, torch.Generator().manual_seed(1))[NAME]
    layer.lora_B["default"].weight.data = 0.3 * drawn(outputs, layer.r["default"], seed=2)
    return layer


def frozen(inputs: int, outputs: int, *, bias: bool = True, dtype: Any = None) -> nn.Linear:
    base = nn.utils.skip_init(nn.Linear, inputs, outputs, bias=bias, dtype=dtype)
    base.requires_grad_(False).weight.copy_(drawn(outputs, inputs, seed=3) / inputs**0.5)
    if bias:
        base.bias.copy_(drawn(outputs, seed=4))
    return base


def step(layer: Any, x: torch.Tensor, run: Any = None) -> Step:
    """Return output and every gradient, through a function that weighs the outputs unlike."""
    layer.zero_grad()
    x = x.detach().clone().requires_grad_(x.requires_grad)
    output = (run or layer)(x)
    functional.silu(output.float() * drawn(*output.shape, seed=5)).sum().backward()
    gradients = {n: p.grad for n, p in layer.named_parameters() if p.requires_grad}
    return output.detach(), gradients | ({"x": x.grad} if x.requires_grad else {})


def plainly(layer: Any, x: torch.Tensor) -> Step:
    """The same by PEFT's forward and torch's autograd."""
    fast, layer.forward = layer.forward, MethodType(type(layer).forward, layer)
    try:
        return step(layer, x)
    finally:
        layer.forward = fast


def is_fast(layer: Any, x: torch.Tensor) -> bool:
    return "FrozenLinearWithLora" in type(layer(x).grad_fn).__name__


def error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found.double() - wanted.double()).norm() / wanted.double().norm())


@pytest.mark.parametrize("algorithm", ["lora", "rslora", "locon"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
@pytest.mark.parametrize("shape", [(6,), (5, 6), (2, 5, 6), (2, 2, 5, 6), (1, 6)], ids=str)
def test_output_and_gradients_are_pefts(shape: tuple, bias: bool, algorithm: Any) -> None:
    layer = adapter(6, 10, algorithm=algorithm)
    layer.base_layer = frozen(6, 10, bias=bias)
    x = drawn(*shape, seed=6).requires_grad_()

    output, found = step(layer, x)

    wanted_output, wanted = plainly(layer, x)
    assert is_fast(layer, x)
    assert error(output, wanted_output) < 1e-6
    assert found.keys() == wanted.keys()
    assert len(found) == 3
    for name in wanted:
        assert found[name].shape == wanted[name].shape
        assert error(found[name], wanted[name]) < 1e-6, name


def test_wide_layers_agree_too() -> None:
    layer = adapter(640, 1280, rank=16)
    layer.base_layer = frozen(640, 1280)
    x = drawn(2, 77, 640, seed=6).requires_grad_()
    (output, found), (wanted_output, wanted) = step(layer, x), plainly(layer, x)
    assert error(output, wanted_output) < 1e-6
    assert all(error(found[name], wanted[name]) < 1e-6 for name in wanted)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.bfloat16, 1e-2), (torch.float16, 1e-3)])
def test_half_precision_keeps_float32_gradients(dtype: torch.dtype, bound: float) -> None:
    layer = adapter(64, 48)
    layer.base_layer = frozen(64, 48, dtype=dtype)
    x = drawn(7, 64, seed=6).to(dtype).requires_grad_()

    output, found = step(layer, x)

    assert is_fast(layer, x)
    assert output.dtype == found["x"].dtype == dtype
    assert all(g.dtype == torch.float32 for n, g in found.items() if n != "x")
    layer.base_layer = layer.base_layer.float()  # the truth: the same weights in float32
    wanted_output, wanted = plainly(layer, x.detach().float().requires_grad_())
    assert error(output, wanted_output) < bound
    assert all(error(found[name], wanted[name]) < bound for name in wanted)


def test_an_input_that_needs_no_gradient_gets_none() -> None:
    layer = adapter(6, 10)
    layer.base_layer = frozen(6, 10)
    x = drawn(5, 6)
    (_, found), (_, wanted) = step(layer, x), plainly(layer, x)
    assert found.keys() == wanted.keys() == {"lora_A.default.weight", "lora_B.default.weight"}
    assert all(error(found[name], wanted[name]) < 1e-6 for name in wanted)


def test_gradients_accumulate_over_micro_batches() -> None:
    layer = adapter(6, 10)
    layer.base_layer = frozen(6, 10)
    first, second = drawn(5, 6, seed=7), drawn(9, 6, seed=8)
    parts = [step(layer, x)[1]["lora_A.default.weight"].clone() for x in (first, second)]
    layer.zero_grad()
    for x in (first, second):
        output = layer(x)
        functional.silu(output * drawn(*output.shape, seed=5)).sum().backward()
    torch.testing.assert_close(layer.lora_A["default"].weight.grad, sum(parts))


def test_checkpointing_changes_no_bit() -> None:
    layer = adapter(6, 10)
    layer.base_layer = frozen(6, 10)
    x = drawn(5, 6, seed=6).requires_grad_()

    def recomputed(x: torch.Tensor) -> Any:
        return checkpoint(layer, x, use_reentrant=False)

    (output, found), (wanted_output, wanted) = step(layer, x, recomputed), step(layer, x)
    assert torch.equal(output, wanted_output)
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_the_input_is_kept_once_and_as_it_came() -> None:
    layer = adapter(64, 256, rank=2)
    layer.base_layer = frozen(64, 256, dtype=torch.bfloat16)
    x = drawn(1000, 64).bfloat16().requires_grad_()
    saved: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        layer(x)
    wide = [t for t in saved if t.numel() >= 1000 * 64]
    assert len(wide) == 1
    assert wide[0].data_ptr() == x.data_ptr()
    assert sum(t.numel() for t in saved) == 1000 * 64 + 1000 * 2 + 64 * 2 + 256 * 2


def test_without_autograd_it_is_the_same_function() -> None:
    layer = adapter(6, 10)
    layer.base_layer = frozen(6, 10)
    x = drawn(5, 6)
    wanted = layer(x).detach()
    for mode in (torch.no_grad(), torch.inference_mode()):
        with mode:
            assert torch.equal(layer(x), wanted)
    layer.enable_adapters(False)
    assert torch.equal(layer(x), layer.base_layer(x))


def test_fused_layers_of_a_diffusers_network_are_frozen_maps() -> None:
    """FLUX's query, key and value: one adapter over three layers."""
    layer = adapter(6, 12)
    parts = [frozen(6, size) for size in (4, 2, 6)]
    layer.base_layer = FusedLinear(parts)
    x = drawn(2, 5, 6, seed=6).requires_grad_()
    assert is_fast(layer, x)
    (output, found), (wanted_output, wanted) = step(layer, x), plainly(layer, x)
    assert error(output, wanted_output) < 1e-6
    assert all(error(found[name], wanted[name]) < 1e-6 for name in wanted)


class Subclass(nn.Linear):
    """Might do anything in its forward."""


def hooked() -> nn.Linear:
    base = frozen(6, 10)
    base.register_forward_hook(lambda _m, _a, out: 2.0 * out)
    return base


def shadowed() -> nn.Linear:
    base = frozen(6, 10)
    plain = base.forward
    base.forward = lambda x: 2.0 * plain(x)
    return base


@pytest.mark.parametrize(
    "base",
    [Subclass(6, 10), hooked(), shadowed(), nn.Linear(6, 10), nn.Sequential(frozen(6, 10))],
    ids=["subclass", "hook", "forward", "trained", "container"],
)
def test_any_other_base_layer_runs_through_pefts_own_forward(base: nn.Module) -> None:
    layer = adapter(6, 10)
    layer.base_layer = base
    x = drawn(5, 6).requires_grad_()
    assert frozen_map(base) is None
    assert not is_fast(layer, x)
    (output, found), (wanted_output, wanted) = step(layer, x), plainly(layer, x)
    assert torch.equal(output, wanted_output)
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize("setting", ["dropout", "rank_dropout", "module_dropout"])
def test_dropout_runs_through_pefts_own_forward(setting: str) -> None:
    layer = adapter(6, 10, **{setting: 0.5})
    layer.base_layer = frozen(6, 10)
    assert not is_fast(layer, drawn(5, 6))


def pair_of_sets(dtype: torch.dtype) -> list[Any]:
    """Two equal sets of two layers, each on a frozen layer of ``dtype``."""
    shape = LayerShape(kind="linear", in_features=6, out_features=6)
    names = ("double_blocks.0.img_mlp.0", "double_blocks.0.img_mlp.2")
    config = AdapterConfig(rank=3)
    sets = []
    for _ in range(2):
        made = build_adapters(dict.fromkeys(names, shape), config, torch.Generator().manual_seed(1))
        for number, layer in enumerate(made.layers.values()):
            layer.base_layer = frozen(6, 6, dtype=dtype)
            layer.lora_B["default"].weight.data = 0.3 * drawn(6, 3, seed=number)
        sets.append(made)
    return sets


def backward(adapters: Any, *, seed: int) -> None:
    x = drawn(4, 6, seed=seed).to(torch.bfloat16)
    for layer in adapters.layers.values():
        x = functional.silu(checkpoint(layer, x, use_reentrant=False))
    x.float().sum().backward()


def test_copies_of_all_weights_at_once_change_no_bit() -> None:
    plain, copied = pair_of_sets(torch.bfloat16)
    for seed in (1, 2):  # two micro-batches of one step
        backward(plain, seed=seed)
        with copied.in_dtype(torch.bfloat16):
            backward(copied, seed=seed)
    for one, other in zip(plain.parameters(), copied.parameters(), strict=True):
        assert one.grad.dtype == other.grad.dtype == torch.float32
        assert torch.equal(one.grad, other.grad)
        assert one.grad.abs().sum() > 0


def test_copies_follow_the_masters_and_leave_nothing_behind() -> None:
    _, adapters = pair_of_sets(torch.bfloat16)
    layer = next(iter(adapters.layers.values()))
    x, names = drawn(4, 6).bfloat16(), sorted(vars(layer))
    for factor in (1.0, 3.0):
        layer.lora_B["default"].weight.data *= factor
        with adapters.in_dtype(torch.bfloat16):
            inside = layer(x).detach()
        assert torch.equal(inside, layer(x).detach())
    with pytest.raises(RuntimeError, match="scalar outputs"), adapters.in_dtype(torch.bfloat16):
        layer(x).backward()
    assert sorted(vars(layer)) == names
    assert all(p.grad is None for p in adapters.parameters())
    assert len(list(adapters.state_dict())) == 4


def test_float32_needs_no_copies() -> None:
    adapters, _ = pair_of_sets(torch.float32)
    layer = next(iter(adapters.layers.values()))
    with adapters.in_dtype(torch.float32):
        assert "half_weights" not in vars(layer)
