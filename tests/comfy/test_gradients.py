"""Trained gradients against a plain reference loop, for every way a base model can be stored."""

import pytest
import torch
import trustopt_test_models as tiny
from trustopt_pack.nodes.bridge.host import ComfyHost
from trustopt_pack.trustopt.adapters import build_adapters, select_layers
from trustopt_pack.trustopt.config import AdapterConfig
from trustopt_test_reference import Reference, relative_error, worst_relative_error


def setup(family: str, storage: str = "fp32"):
    patcher = tiny.build(family, storage)
    host = ComfyHost(patcher, object(), object())
    return patcher, host, tiny.adapters(host)


@pytest.mark.parametrize("checkpointing", [False, True], ids=["plain", "checkpointed"])
@pytest.mark.parametrize("storage", ["fp32", "fp8"])
@pytest.mark.parametrize("family", ["sdxl", "flux"])
def test_gradients_equal_the_plain_loop(family, storage, checkpointing) -> None:
    patcher, host, adapters = setup(family, storage)
    kinds = {shape.kind for shape in host.layers().values()}
    assert kinds == {"linear", "conv2d"} if family == "sdxl" else {"linear"}

    output, found = tiny.train_step(host, adapters, checkpointing=checkpointing)

    wanted_output, wanted = Reference(patcher, adapters).train_step(host)
    assert relative_error([output], [wanted_output]) < 1e-5
    assert relative_error(found, wanted) < 1e-5
    assert worst_relative_error(found, wanted) < 1e-4  # float32 rounding, deep in the network


@pytest.mark.parametrize(("storage", "bound"), [("bf16", 0.15), ("fp16", 0.02)])
@pytest.mark.parametrize("family", ["sdxl", "flux"])
def test_half_precision_gradients_are_near_the_plain_loop(family, storage, bound) -> None:
    patcher, host, adapters = setup(family, storage)

    output, found = tiny.train_step(host, adapters)

    _, wanted = Reference(patcher, adapters).train_step(host)
    assert output.dtype == torch.float32
    assert all(g.dtype == torch.float32 for g in found)
    assert relative_error(found, wanted) < bound


@pytest.mark.parametrize(
    ("storage", "bound"), [("bf16", 0.01), ("int8-quantised", 1e-5), ("fp8-quantised", 1e-5)]
)
@pytest.mark.parametrize("family", ["sdxl", "flux"])
def test_checkpointing_changes_gradients_by_the_order_of_sums_only(family, storage, bound) -> None:
    _, host, adapters = setup(family, storage)

    plain_output, plain = tiny.train_step(host, adapters, checkpointing=False)
    output, checkpointed = tiny.train_step(host, adapters, checkpointing=True)

    assert torch.equal(plain_output, output)
    assert relative_error(checkpointed, plain) < bound
    assert worst_relative_error(checkpointed, plain) < 10 * bound


def test_streamed_weights_give_the_same_gradients() -> None:
    """ComfyUI streams weights through buffers that the next layer overwrites."""
    for family in ("sdxl", "flux"):
        patcher, host, adapters = setup(family)
        _, resident = tiny.train_step(host, adapters, checkpointing=False)
        buffer = torch.empty(1_000_000)

        def through_buffer(weight: torch.Tensor, buffer=buffer) -> torch.Tensor:
            buffer.fill_(float("nan"))
            lent = buffer[: weight.numel()].view(weight.shape)
            lent.copy_(weight)
            return lent.detach()

        streamed = 0
        for module in patcher.model.diffusion_model.modules():
            if hasattr(module, "weight_function"):
                module.weight_function = [through_buffer]
                streamed += 1
        _, found = tiny.train_step(host, adapters, checkpointing=False)

        assert streamed > 30
        assert all(torch.equal(a, b) for a, b in zip(found, resident, strict=True))


@pytest.mark.parametrize("family", ["sdxl", "flux"])
def test_no_weight_of_the_base_is_kept_for_backward(family) -> None:
    patcher, host, adapters = setup(family)
    own = {p.untyped_storage().data_ptr() for p in patcher.model.parameters()}
    saved = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        saved.append(tensor)
        return tensor

    with host.session(adapters, checkpointing=False):
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            host.denoise(*tiny.batch(family))
        assert len(saved) > 100
        assert not own & {tensor.untyped_storage().data_ptr() for tensor in saved}


@pytest.mark.parametrize("storage", ["bf16", "int8-quantised"])
@pytest.mark.parametrize("algorithm", ["lora", "locon", "rslora", "dora", "loha", "lokr", "oft"])
def test_every_algorithm_trains_and_leaves_no_trace(algorithm, storage) -> None:
    patcher = tiny.build("sdxl", storage)
    host = ComfyHost(patcher, object(), object())
    before_sample = tiny.sample(patcher, "sdxl")
    before = tiny.fingerprint(patcher)
    config = AdapterConfig(algorithm=algorithm, rank=4, targets="all-linear+conv")
    layers = select_layers(host.layers(), config, "sdxl")
    adapters = build_adapters(layers, config, torch.Generator().manual_seed(0))
    optimizer = torch.optim.AdamW(adapters.parameters(), lr=1e-2)

    losses = []
    with torch.inference_mode(True), host.session(adapters.layers, checkpointing=True):
        assert host.layers().keys() >= layers.keys()
        for _ in range(3):
            output = host.denoise(*tiny.batch("sdxl"))
            loss = (output - tiny.latents("sdxl", 2, seed=9)).square().mean()
            loss.backward()
            optimizer.step()
            assert all(p.grad.isfinite().all() for p in adapters.parameters())
            optimizer.zero_grad()
            losses.append(float(loss.detach()))

    assert losses[2] < losses[0]
    assert torch.equal(tiny.sample(patcher, "sdxl"), before_sample)
    assert tiny.fingerprint(patcher) == before


def test_only_the_first_layers_adapters_train_too() -> None:
    """Blocks whose inputs need no gradient must still give one to their adapters."""
    patcher = tiny.build("flux")
    host = ComfyHost(patcher, object(), object())
    adapters = tiny.adapters(host, names={"double_blocks.0.img_attn.qkv"})

    _, found = tiny.train_step(host, adapters)

    _, wanted = Reference(patcher, adapters).train_step(host)
    assert worst_relative_error(found, wanted) < 1e-5


def test_self_check_tells_checkpointing_apart_from_a_patch_that_breaks_it() -> None:
    _, host, adapters = setup("flux")
    with host.session(adapters, checkpointing=True):
        assert host.checkpointing_error(*tiny.batch("flux")) < 1e-6
        assert all(p.grad is None for p in tiny.trained(adapters))

    patcher = tiny.build("flux")
    calls = []

    def forgetful(attention: torch.Tensor, _: dict) -> torch.Tensor:
        calls.append(1)  # another answer in the recomputation than in the forward pass
        return attention * (1.0 + 0.1 * len(calls))

    patcher.set_model_attn1_output_patch(forgetful)
    host = ComfyHost(patcher, object(), object())
    with host.session(adapters, checkpointing=True):
        assert host.checkpointing_error(*tiny.batch("flux")) > 1e-2


@pytest.mark.parametrize("family", ["sdxl", "flux"])
def test_patches_see_their_own_block_in_the_recomputation(family) -> None:
    patcher = tiny.build(family)
    seen = []

    def by_block(attention: torch.Tensor, options: dict) -> torch.Tensor:
        place = (options.get("block"), options["block_index"], options.get("block_type"))
        if place not in seen:
            seen.append(place)
        return attention * (1.0 + 0.3 * seen.index(place))

    patcher.set_model_attn1_output_patch(by_block)
    host = ComfyHost(patcher, object(), object())
    with host.session(tiny.adapters(host), checkpointing=True):
        assert host.checkpointing_error(*tiny.batch(family)) < 1e-6
    assert len(seen) > 2
