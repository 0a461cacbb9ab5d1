"""The ways ComfyUI keeps a model in memory, as far as a CPU can show them."""

import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy_aimdo.host_buffer
import pytest
import torch
import trustopt_test_models as tiny
from trustopt_pack.nodes.bridge.host import ComfyHost


def host_of(patcher) -> ComfyHost:
    return ComfyHost(patcher, object(), object())


class NoBuffer:
    """Stands for pinned memory, which needs a GPU's driver."""

    size = 0

    def __init__(self, *_: object) -> None:
        pass

    def truncate(self, *_: object, **__: object) -> None:
        pass


@pytest.fixture
def dynamic(monkeypatch):
    """Let ComfyUI's patcher for streamed weights run on the CPU, without its GPU buffers."""
    kind = comfy.model_patcher.ModelPatcherDynamic
    monkeypatch.setattr(comfy.model_management, "is_device_cpu", lambda _: False)
    monkeypatch.setattr(comfy_aimdo.host_buffer, "HostBuffer", NoBuffer)
    monkeypatch.setattr(
        kind, "partially_unload", lambda self, *_, **__: self.restore_loaded_backups()
    )

    def build(family: str):
        cpu = torch.device("cpu")
        with torch.inference_mode(True):
            patcher = kind(tiny.build(family).model, load_device=cpu, offload_device=cpu)
        assert patcher.is_dynamic()
        return patcher

    return build


@pytest.mark.parametrize("family", ["sdxl", "flux"])
def test_dynamic_patcher_trains_and_comes_back(family, dynamic) -> None:
    plain = tiny.build(family)
    adapters = tiny.adapters(host_of(plain))
    _, wanted = tiny.train_step(host_of(plain), adapters)
    patcher = dynamic(family)
    before_sample = tiny.sample(patcher, family)
    before = tiny.fingerprint(patcher)

    for _ in range(2):  # ComfyUI prepares the model anew before each
        _, found = tiny.train_step(host_of(patcher), adapters)

    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
    assert tiny.fingerprint(patcher) == before
    assert torch.equal(tiny.sample(patcher, family), before_sample)


@pytest.mark.parametrize("family", ["sdxl", "flux"])
def test_lora_merged_on_the_fly_is_in_the_gradients(family, monkeypatch) -> None:
    """With little memory ComfyUI merges a LoRA into each weight as it streams it."""
    base = tiny.build(family)
    adapters = tiny.adapters(host_of(base), seed=12)
    file = tiny.kohya(tiny.adapters(host_of(base), seed=11))
    with torch.inference_mode(True):
        patcher = comfy.sd.load_lora_for_models(base, None, file, 0.7, 0.0)[0]
    _, merged = tiny.train_step(host_of(patcher), adapters)
    comfy.model_management.unload_all_models()

    load = comfy.model_management.LoadedModel.model_load
    monkeypatch.setattr(
        comfy.model_management.LoadedModel, "model_load", lambda self, *_, **__: load(self, 1)
    )
    before_sample = tiny.sample(patcher, family)
    assert patcher.model.model_lowvram
    before = tiny.fingerprint(patcher)

    _, streamed = tiny.train_step(host_of(patcher), adapters)

    for one, other in zip(streamed, merged, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    assert tiny.fingerprint(patcher) == before
    assert torch.equal(tiny.sample(patcher, family), before_sample)


def test_memory_is_reserved_when_weights_are_loaded(monkeypatch) -> None:
    asked = []
    load = comfy.model_management.load_models_gpu

    def watch(models, memory_required=0, **options):
        asked.append((memory_required, torch.is_inference_mode_enabled()))
        return load(models, memory_required=memory_required, **options)

    monkeypatch.setattr(comfy.model_management, "load_models_gpu", watch)
    host = ComfyHost(tiny.build("flux"), object(), object(), reserve_memory=123_456)
    with host.session({}, checkpointing=True):
        assert asked == [(123_456, True)]
