"""One adapter in two hosts: ComfyUI and diffusers give the same outputs and gradients."""

import pytest
import torch
from trustopt_pack.nodes.bridge.host import ComfyHost
from trustopt_pack.nodes.bridge.tiny import load_tiny as load_in_comfyui
from trustopt_pack.trustopt.adapters.build import build_adapters
from trustopt_pack.trustopt.config import AdapterConfig
from trustopt_pack.trustopt.host import Conditioning, Geometry
from trustopt_pack.trustopt.hosts.loading import load_tiny

CAPTIONS = ["a red cat, sitting", "dog " * 90]
BOUND = 1e-5
"""Relative error (L2) that float32 rounding may leave between two orders of the same sums."""


@pytest.fixture(scope="module", params=["sdxl", "flux"])
def hosts(request):
    with torch.inference_mode(True):
        parts = load_in_comfyui(request.param)
    return ComfyHost(parts.model, parts.clip, parts.vae), load_tiny(request.param)


def error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    return float((actual - expected).norm() / expected.norm())


def test_encoders_agree(hosts) -> None:
    comfyui, headless = hosts
    both = (host.encode_prompts(CAPTIONS) for host in hosts)
    for ours, theirs in zip(*both, strict=True):
        assert error(ours["context"], theirs["context"]) < BOUND
        assert error(ours["pooled"], theirs["pooled"]) < BOUND
    pixels = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    ours, theirs = comfyui.encode_images(pixels), headless.encode_images(pixels)
    assert error(ours.mean, theirs.mean) < BOUND
    assert error(ours.std, theirs.std) < BOUND


@pytest.mark.parametrize("checkpointing", [False, True])
def test_outputs_and_gradients_agree(hosts, checkpointing) -> None:
    comfyui, headless = hosts
    generator = torch.Generator().manual_seed(1)
    shape = (2, headless.latent_channels, 8, 12)
    noised, target = (torch.randn(shape, generator=generator) for _ in range(2))
    sigma = torch.tensor([0.4, 0.95])
    pictures = [
        Geometry(original=(640, 480), crop=(8, 16), target=(96, 64)),
        Geometry(original=(96, 64), crop=(0, 0), target=(96, 64)),
    ]
    prompts = headless.encode_prompts(CAPTIONS)
    conditioning = Conditioning(prompts=prompts, geometry=pictures, guidance=2.0)
    layers = {n: s for n, s in headless.layers().items() if not n.startswith("te")}

    outputs, gradients = [], []
    for host in (comfyui, headless):
        config = AdapterConfig(rank=4, conv_rank=4)
        adapters = build_adapters(layers, config, torch.Generator().manual_seed(2))
        with torch.no_grad():
            draw = torch.Generator().manual_seed(3)
            for parameter in adapters.parameters():
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=draw))
        with host.session(adapters.layers, checkpointing=checkpointing):
            output = host.denoise(noised, sigma, conditioning)
            (output - target).square().mean().backward()
        outputs.append(output.detach())
        gradients.append({name: p.grad for name, p in adapters.named_parameters()})

    assert error(*outputs) < BOUND
    whole = [torch.cat([grad.flatten() for grad in found.values()]) for found in gradients]
    assert error(*whole) < BOUND
    for name, expected in gradients[1].items():
        assert error(gradients[0][name], expected) < 10 * BOUND, name
