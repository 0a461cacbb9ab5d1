"""The tiny model as ComfyUI's own objects; ``test_tiny_agrees`` compares it with diffusers."""

import pytest
import torch
import trustopt_test_models as tiny
from trustopt_pack.nodes.bridge.host import ComfyHost
from trustopt_pack.nodes.bridge.tiny import load_tiny
from trustopt_pack.trustopt.host import Host
from trustopt_pack.trustopt.hosts.loading import load_tiny as load_headless


def comfy_host(family: str) -> ComfyHost:
    with torch.inference_mode(True):
        parts = load_tiny(family)
    return ComfyHost(parts.model, parts.clip, parts.vae)


@pytest.mark.parametrize("family", ["sdxl", "flux"])
def test_both_hosts_describe_the_same_model(family) -> None:
    ours, theirs = comfy_host(family), load_headless(family)
    assert isinstance(ours, Host)
    for name in ("family", "prediction", "model_name", "latent_channels", "pixel_multiple"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert ours.flow_shift == (theirs.flow_shift and pytest.approx(theirs.flow_shift))
    if family == "sdxl":
        torch.testing.assert_close(ours.sigmas, theirs.sigmas)
    assert dict(ours.layers()) == dict(theirs.layers())


@pytest.mark.parametrize("family", ["sdxl", "flux"])
def test_every_tensor_is_loaded_and_every_loading_is_the_same(family) -> None:
    first, second = load_tiny(family), load_tiny(family)
    for one, other in (
        (first.model.model, second.model.model),
        (first.clip.cond_stage_model, second.clip.cond_stage_model),
        (first.vae.first_stage_model, second.vae.first_stage_model),
    ):
        state, again = one.state_dict(), other.state_dict()
        assert state.keys() == again.keys()
        assert all(torch.equal(tensor, again[name]) for name, tensor in state.items())
    assert comfy_host(family).identity() == comfy_host(family).identity()


@pytest.mark.parametrize("family", ["sdxl", "flux"])
def test_tiny_model_samples_and_decodes_and_comes_again(family) -> None:
    parts = load_tiny(family)
    prompt = ComfyHost(parts.model, parts.clip, parts.vae).encode_prompts(["a dog"])[0]
    before = tiny.sample(parts.model, family, given=prompt)
    with torch.inference_mode(True):
        picture = parts.vae.decode(before)

    assert picture.shape == (1, 64, 64, 3)
    assert picture.isfinite().all()
    loader, arguments = parts.model.cached_patcher_init
    again = loader(*arguments, disable_dynamic=True)
    assert torch.equal(tiny.sample(again, family, given=prompt), before)


def test_weighted_prompts_and_long_ones_keep_comfyuis_meaning() -> None:
    clip = load_tiny("sdxl").clip
    tokens = clip.tokenize("a (dog:1.5), " + "word " * 80)

    assert [len(rows) for rows in tokens.values()] == [2, 2]
    assert all(len(row) == 77 for rows in tokens.values() for row in rows)
    assert {weight for _, weight in tokens["l"][0]} == {1.0, 1.5}
