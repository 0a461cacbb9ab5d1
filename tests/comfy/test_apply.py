"""What was trained is what ComfyUI's own loader makes of the file."""

import pytest
import torch
import trustopt_test_models as tiny
from trustopt_pack.nodes.bridge.apply import apply_lora
from trustopt_pack.nodes.bridge.host import ComfyHost
from trustopt_pack.nodes.bridge.tiny import load_tiny
from trustopt_test_reference import relative_error


def output_of(patcher, family: str, adapters: dict) -> torch.Tensor:
    host = ComfyHost(patcher, object(), object())
    with host.session(adapters, checkpointing=False), torch.no_grad():
        return host.denoise(*tiny.batch(family))


@pytest.mark.parametrize("family", ["sdxl", "flux"])
def test_loaded_file_reproduces_the_trained_model(family) -> None:
    patcher = tiny.build(family)
    host = ComfyHost(patcher, object(), object())
    adapters = tiny.adapters(host)
    base = output_of(patcher, family, {})
    trained = output_of(patcher, family, adapters)
    assert relative_error([trained], [base]) > 0.01
    file = tiny.kohya(adapters)

    with torch.inference_mode(True):
        applied = apply_lora(patcher, None, file, 1.0)

    assert applied.mapped == applied.total == len(adapters)
    assert applied.clip is None
    assert relative_error([output_of(applied.model, family, {})], [trained]) < 1e-5
    assert torch.equal(output_of(patcher, family, {}), base)


def test_samples_with_the_loaded_file_are_the_trained_models() -> None:
    patcher = tiny.build("flux")
    host = ComfyHost(patcher, object(), object())
    adapters = tiny.adapters(host)
    with host.session(adapters, checkpointing=True), host.sampling() as half_trained:
        wanted = tiny.sample(half_trained, "flux")

    applied = apply_lora(patcher, None, tiny.kohya(adapters), 1.0)

    assert relative_error([tiny.sample(applied.model, "flux")], [wanted]) < 1e-4
    assert relative_error([tiny.sample(patcher, "flux")], [wanted]) > 1e-2


def test_layers_that_fit_nothing_are_counted() -> None:
    parts = load_tiny("sdxl")
    host = ComfyHost(parts.model, parts.clip, parts.vae)
    file = tiny.kohya(tiny.adapters(host, names={"middle_block.1.proj_in"}))
    text = "lora_te1_text_model_encoder_layers_0_mlp_fc1"
    file[f"{text}.lora_down.weight"] = torch.zeros(2, 32)
    file[f"{text}.lora_up.weight"] = torch.zeros(128, 2)
    file["lora_unet_no_such_layer.lora_down.weight"] = torch.zeros(2, 8)
    file["lora_unet_no_such_layer.lora_up.weight"] = torch.zeros(8, 2)

    applied = apply_lora(parts.model, parts.clip, file, 1.0)
    assert (applied.mapped, applied.total) == (2, 3)
    assert len(file) == 7
    half = apply_lora(applied.model, applied.clip, file, 0.5)
    assert (half.mapped, half.total) == (2, 3)
