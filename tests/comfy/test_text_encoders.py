"""SDXL's text encoders in training, against diffusers' and with nothing left behind."""

import pytest
import torch
import trustopt_test_models as tiny
from trustopt_pack.nodes.bridge.host import ComfyHost
from trustopt_pack.nodes.bridge.tiny import load_tiny
from trustopt_pack.trustopt.adapters import build_adapters, select_layers
from trustopt_pack.trustopt.config import AdapterConfig
from trustopt_pack.trustopt.host import Conditioning, Geometry
from trustopt_pack.trustopt.hosts.loading import load_tiny as load_headless
from trustopt_test_reference import relative_error, worst_relative_error

CAPTIONS = ["a photo of sks dog", "word " * 90]


def host_and_parts():
    with torch.inference_mode(True):
        parts = load_tiny("sdxl")
    return ComfyHost(parts.model, parts.clip, parts.vae), parts


def adapters_of(host):
    """Return adapters for text encoders and network with values in every factor."""
    config = AdapterConfig(rank=2, train_text_encoders=True)
    layers = select_layers(host.layers(), config, "sdxl")
    adapters = build_adapters(
        dict(sorted(layers.items())), config, torch.Generator().manual_seed(0)
    )
    source = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in adapters.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=source) * 0.05)
    return adapters


def train_step(host, adapters, *, between=lambda: None):
    """Take a step in which captions are encoded with gradients; return losses and gradients."""
    noised, sigma = tiny.latents("sdxl", 2), torch.tensor([0.5, 2.0])
    geometry = [Geometry(original=(64, 64), crop=(0, 0), target=(64, 64))] * 2
    with host.session(adapters.layers, checkpointing=True):
        prompts = host.encode_prompts(CAPTIONS)
        conditioning = Conditioning(prompts=prompts, geometry=geometry)
        loss = host.denoise(noised, sigma, conditioning).square().mean()
        between()
        loss.backward()
    # The last layer of CLIP-L is behind what SDXL reads.
    found = {n: p.grad.clone() for n, p in adapters.named_parameters() if p.grad is not None}
    return float(loss.detach()), found


def test_gradients_are_those_of_diffusers() -> None:
    host, _ = host_and_parts()
    headless = load_headless("sdxl")

    loss, found = train_step(host, adapters_of(host))
    wanted_loss, wanted = train_step(headless, adapters_of(headless))

    assert found.keys() == wanted.keys()
    text = [name for name in found if name.startswith("te")]
    assert len(text) > 40
    assert {name[:4] for name in text} == {"te1.", "te2."}
    assert loss == pytest.approx(wanted_loss, rel=1e-5)
    ours, theirs = [found[n] for n in text], [wanted[n] for n in text]
    assert relative_error(ours, theirs) < 1e-5
    assert worst_relative_error([found[n] for n in found], [wanted[n] for n in found]) < 1e-3


def fail() -> None:
    raise RuntimeError("out of luck")


def test_text_encoders_come_back_and_prompts_are_the_bases_again() -> None:
    host, parts = host_and_parts()
    before = tiny.fingerprint(parts.clip.patcher)
    prompts = host.encode_prompts(CAPTIONS)

    adapters = adapters_of(host)
    train_step(host, adapters)
    with host.session(adapters.layers, checkpointing=True):
        changed = host.encode_prompts(CAPTIONS)
        assert changed[0]["context"].requires_grad
        assert changed[0]["pooled"].requires_grad
        assert not torch.allclose(changed[0]["context"], prompts[0]["context"], rtol=1e-3)
    with pytest.raises(RuntimeError, match="out of luck"):
        train_step(host, adapters, between=fail)

    assert tiny.fingerprint(parts.clip.patcher) == before
    after = host.encode_prompts(CAPTIONS)
    assert all(torch.equal(a["context"], b["context"]) for a, b in zip(after, prompts, strict=True))
    assert all(torch.equal(a["pooled"], b["pooled"]) for a, b in zip(after, prompts, strict=True))


def test_eviction_before_backward_changes_no_gradient() -> None:
    """The network may need the memory that the text encoders were in."""
    host, _ = host_and_parts()
    adapters = adapters_of(host)
    _, wanted = train_step(host, adapters)
    for parameter in adapters.parameters():
        parameter.grad = None

    def evict() -> None:
        host._text_session.patcher.detach()

    _, found = train_step(host, adapters, between=evict)

    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_flux_offers_no_text_encoder_layers() -> None:
    with torch.inference_mode(True):
        parts = load_tiny("flux")
    host = ComfyHost(parts.model, parts.clip, parts.vae)
    assert not [name for name in host.layers() if name.startswith("te")]
