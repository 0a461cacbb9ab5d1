"""The sampler: exact on problems with a known answer, and harmless to the host."""

import numpy as np
import pytest
import torch

from trustopt.adapters.build import build_adapters
from trustopt.config import AdapterConfig
from trustopt.diffusion.noising import add_noise, target_of
from trustopt.hosts.noise_levels import sdxl_sigmas
from trustopt.hosts.sampling import derivative, euler, sample, sampling_sigmas


@pytest.mark.parametrize("prediction", ["eps", "v", "flow"])
def test_a_network_that_knows_the_answer_leads_to_it(prediction):
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(1, 4, 2, 2, generator=generator)
    noise = torch.randn(1, 4, 2, 2, generator=generator)
    sigmas = torch.tensor([1.0, 0.7, 0.2, 0.0])

    def velocity(x, sigma):
        """Answer with the exact target of the one picture there is."""
        scale = sigma.view(-1, 1, 1, 1)
        implied = (x - latents * (1.0 - scale if prediction == "flow" else 1.0)) / scale
        output = target_of(latents, implied, sigma, prediction)
        return derivative(output, x, sigma, prediction)

    found = euler(velocity, noise, sigmas, prediction)
    torch.testing.assert_close(found, latents, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("prediction", ["eps", "v", "flow"])
def test_the_derivative_is_that_of_add_noise(prediction):
    generator = torch.Generator().manual_seed(1)
    latents, noise = torch.randn(2, 1, 4, 3, 3, generator=generator).double()
    sigma = torch.tensor([0.4], dtype=torch.float64, requires_grad=True)

    def noised(level):
        return add_noise(latents, noise, level, prediction)

    expected = torch.autograd.functional.jacobian(noised, sigma.detach())[..., 0]
    output = target_of(latents, noise, sigma.detach(), prediction)
    actual = derivative(output, noised(sigma.detach()), sigma.detach(), prediction)
    torch.testing.assert_close(actual, expected)


def test_noise_levels_fall_from_the_highest_to_zero(host):
    sigmas = sampling_sigmas(host, 7)
    assert len(sigmas) == 8
    assert (sigmas.diff() < 0).all()
    assert sigmas[-1] == 0.0
    highest = 1.0 if host.sigmas is None else host.sigmas[-1]
    assert sigmas[0] == highest


def test_sdxls_noise_levels_are_the_known_ones():
    assert sdxl_sigmas()[[0, -1]].tolist() == pytest.approx([0.0291672, 14.6146], rel=1e-5)
    terminal = sdxl_sigmas(zero_terminal_snr=True)
    assert terminal[[0, -2, -1]].tolist() == pytest.approx([0.0291672, 2254.2, 4518.76], rel=1e-4)


def test_pictures_are_uint8_and_repeat(host):
    state = torch.get_rng_state()
    first = sample(host, ["cat", "dog"], size=(64, 96), steps=2, seed=5)
    again = sample(host, ["dog"], size=(64, 96), steps=2, seed=6)
    assert first.shape == (2, 96, 64, 3)
    assert first.dtype == np.uint8
    assert first.std() > 1.0
    np.testing.assert_array_equal(first[1:], again)
    assert torch.equal(torch.get_rng_state(), state)


def test_guidance_counts(host):
    pictures = [
        sample(host, ["cat"], size=(64, 64), steps=2, guidance=guidance) for guidance in (1.0, 6.0)
    ]
    assert (pictures[0] != pictures[1]).any()


def test_inside_a_session_the_adapters_draw(host):
    names = [name for name in host.layers() if name.endswith(("attn2.to_v", "linear2"))]
    layers = {name: host.layers()[name] for name in names}
    adapters = build_adapters(layers, AdapterConfig(rank=4), torch.Generator().manual_seed(0))
    with torch.no_grad():
        for parameter in adapters.parameters():
            parameter.add_(0.3)
    base = sample(host, ["cat"], size=(64, 64), steps=2)
    with host.session(adapters.layers, checkpointing=True):
        assert (sample(host, ["cat"], size=(64, 64), steps=2) != base).any()
        assert torch.is_grad_enabled()
    np.testing.assert_array_equal(sample(host, ["cat"], size=(64, 64), steps=2), base)


def test_impossible_sizes_and_steps_say_what_is_possible(host):
    with pytest.raises(ValueError, match=r"size 60 x 64 .* multiples of (8|16)"):
        sample(host, ["cat"], size=(60, 64))
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        sample(host, ["cat"], size=(64, 64), steps=0)


def test_no_captions_no_pictures(host):
    assert sample(host, [], size=(64, 64)).shape == (0, 64, 64, 3)
