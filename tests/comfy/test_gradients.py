"""Trained gradients against a plain reference loop, and what the network is conditioned on."""

import pytest
import torch
import trustopt_test_models as tiny
from trustopt_pack.nodes.bridge.host import ComfyHost
from trustopt_pack.trustopt.host import Conditioning, Geometry
from trustopt_test_reference import Reference, relative_error, worst_relative_error

GEOMETRY = [
    Geometry(original=(640, 480), crop=(0, 16), target=(64, 64)),
    Geometry(original=(300, 900), crop=(8, 0), target=(64, 64)),
]
SIGMA = {"sdxl": torch.tensor([0.7, 6.0]), "flux": torch.tensor([0.3, 0.8])}


def batch(family: str) -> tuple[torch.Tensor, torch.Tensor, Conditioning]:
    prompts = [tiny.prompt(family, seed=seed) for seed in (1, 2)]
    conditioning = Conditioning(prompts=prompts, geometry=GEOMETRY, guidance=2.0)
    return tiny.latents(family, 2), SIGMA[family], conditioning


def host_of(patcher) -> ComfyHost:
    return ComfyHost(patcher, object(), object())


def gradients(host, adapters, checkpointing: bool) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Return output and gradients of one training step through the host."""
    noised, sigma, conditioning = batch(host.family)
    with host.session(adapters, checkpointing=checkpointing):
        output = host.denoise(noised, sigma, conditioning)
        loss = (output - tiny.latents(host.family, 2, seed=9)).square().mean()
        loss.backward()
        found = [p.grad.clone() for p in tiny.trained(adapters)]
    return output.detach(), found


def expected(host, patcher, adapters) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Return the same from the plain reference."""
    reference = Reference(patcher, adapters)
    noised, sigma, conditioning = batch(host.family)
    if host.family == "sdxl":
        output = reference.sdxl(noised, sigma, conditioning.prompts, GEOMETRY, host.sigmas)
    else:
        output = reference.flux(noised, sigma, conditioning.prompts, conditioning.guidance)
    loss = (output - tiny.latents(host.family, 2, seed=9)).square().mean()
    return output.detach(), list(torch.autograd.grad(loss, reference.parameters()))


@pytest.mark.parametrize("checkpointing", [False, True], ids=["plain", "checkpointed"])
@pytest.mark.parametrize("storage", ["fp32", "fp8"])
@pytest.mark.parametrize("family", ["sdxl", "flux"])
def test_gradients_equal_the_plain_loop(family, storage, checkpointing) -> None:
    patcher = tiny.build(family, storage)
    host = host_of(patcher)
    adapters = tiny.adapters(host)
    assert {shape.kind for shape in host.layers().values()} == (
        {"linear", "conv2d"} if family == "sdxl" else {"linear"}
    )

    output, found = gradients(host, adapters, checkpointing)

    wanted_output, wanted = expected(host, patcher, adapters)
    assert relative_error([output], [wanted_output]) < 1e-5
    assert relative_error(found, wanted) < 1e-5
    assert worst_relative_error(found, wanted) < 1e-4  # float32 rounding, deep in the network


@pytest.mark.parametrize("storage", ["bf16", "fp16"])
@pytest.mark.parametrize("family", ["sdxl", "flux"])
def test_half_precision_gradients_are_near_the_plain_loop(family, storage) -> None:
    patcher = tiny.build(family, storage)
    host = host_of(patcher)
    adapters = tiny.adapters(host)

    _, found = gradients(host, adapters, checkpointing=True)

    assert all(g.dtype == torch.float32 for g in found)
    _, wanted = expected(host, patcher, adapters)
    assert relative_error(found, wanted) < {"bf16": 0.15, "fp16": 0.02}[storage]


@pytest.mark.parametrize("storage", list(tiny.STORAGE))
@pytest.mark.parametrize("family", ["sdxl", "flux"])
def test_checkpointing_changes_no_gradient(family, storage) -> None:
    host = host_of(tiny.build(family, storage))
    adapters = tiny.adapters(host)

    plain_output, plain = gradients(host, adapters, checkpointing=False)
    output, checkpointed = gradients(host, adapters, checkpointing=True)

    assert torch.equal(plain_output, output)
    assert all(torch.equal(a, b) for a, b in zip(plain, checkpointed, strict=True))
