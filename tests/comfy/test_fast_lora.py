"""The one-operation LoRA over ComfyUI's layers, which are cast, quantised or hooked."""

import comfy.sd
import pytest
import torch
import trustopt_test_models as tiny
from trustopt_pack.nodes.bridge.host import ComfyHost
from trustopt_pack.trustopt.adapters import build_adapters
from trustopt_pack.trustopt.adapters.fast_lora import frozen_map
from trustopt_pack.trustopt.config import AdapterConfig
from trustopt_test_reference import relative_error

CONFIG = AdapterConfig(rank=2, alpha=4.0, conv_rank=2, conv_alpha=4.0)


def pair(patcher):
    """Return a host, PEFT's own layers for it, and the engine's with the same weights."""
    host = ComfyHost(patcher, object(), object())
    plain = tiny.adapters(host)
    with torch.inference_mode(False):
        fast = build_adapters(host.layers(), CONFIG, torch.Generator().manual_seed(0))
    for name, adapter in plain.items():
        for factor in ("lora_A", "lora_B"):
            weight = getattr(adapter, factor)["default"].weight
            fast.tensors(name)[f"{factor}.weight"].data.copy_(weight)
    return host, plain, fast


@pytest.mark.parametrize("checkpointing", [False, True], ids=["plain", "checkpointed"])
@pytest.mark.parametrize("storage", ["fp32", "fp8", "int8-quantised", "fp8-quantised"])
@pytest.mark.parametrize("family", ["sdxl", "flux"])
def test_gradients_are_those_of_pefts_forward(family, storage, checkpointing) -> None:
    host, plain, fast = pair(tiny.build(family, storage))

    wanted_output, wanted = tiny.train_step(host, plain, checkpointing=checkpointing)
    output, found = tiny.train_step(host, fast.layers, checkpointing=checkpointing)

    assert relative_error([output], [wanted_output]) < 2e-6
    assert relative_error(found, wanted) < 5e-6  # float32 rounding, through a whole network


@pytest.mark.parametrize(("storage", "bound"), [("bf16", 0.1), ("fp16", 0.01)])
@pytest.mark.parametrize("family", ["sdxl", "flux"])
def test_half_precision_is_as_near_to_the_truth_as_pefts_forward(family, storage, bound) -> None:
    host, plain, fast = pair(tiny.build(family, storage))
    _, wanted = tiny.train_step(host, plain)
    _, found = tiny.train_step(host, fast.layers)
    assert all(g.dtype == torch.float32 for g in found)
    assert relative_error(found, wanted) < bound


def test_a_layer_under_another_packs_hook_leaves_its_backward_to_autograd() -> None:
    patcher = tiny.build("flux")
    hooked = "double_blocks.0.img_attn.qkv"
    host, _, fast = pair(patcher)
    other = tiny.kohya(tiny.adapters(host, names={hooked}, seed=11))
    with torch.inference_mode(True):
        patcher = comfy.sd.load_bypass_lora_for_models(patcher, None, other, 0.7, 0.0)[0]
    host = ComfyHost(patcher, object(), object())

    with host.session(fast.layers, checkpointing=False):
        fused = {n for n, adapter in fast.items() if frozen_map(adapter.base_layer) is not None}

    assert fused == set(fast) - {hooked}


def test_convolutions_are_pefts() -> None:
    host, _, fast = pair(tiny.build("sdxl"))
    with host.session(fast.layers, checkpointing=False):
        for name, shape in host.layers().items():
            is_fused = frozen_map(fast[name].base_layer) is not None
            assert is_fused == (shape.kind == "linear"), name
