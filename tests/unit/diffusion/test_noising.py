"""Mirrors trustopt/diffusion/noising.py and timesteps.py."""

import pytest
import torch

from trustopt.diffusion.noising import add_noise, draw_noise, target_of
from trustopt.diffusion.timesteps import flux_shift, shift_levels, sigmoid_normal

LATENTS, NOISE = torch.full((1, 1, 1, 1), 2.0), torch.full((1, 1, 1, 1), 3.0)


def test_noised_and_target_by_hand() -> None:
    sigma = torch.tensor([0.75])
    assert add_noise(LATENTS, NOISE, sigma, "eps").item() == 2 + 0.75 * 3
    assert add_noise(LATENTS, NOISE, sigma, "flow").item() == 0.25 * 2 + 0.75 * 3
    assert target_of(LATENTS, NOISE, sigma, "eps").item() == 3.0
    assert target_of(LATENTS, NOISE, sigma, "flow").item() == 1.0
    # sqrt(0.75^2 + 1) = 1.25
    assert target_of(LATENTS, NOISE, sigma, "v").item() == pytest.approx((3 - 1.5) / 1.25)


def test_offset_moves_whole_channels() -> None:
    rng = torch.Generator().manual_seed(0)
    plain = draw_noise(torch.Size((2, 3, 8, 8)), torch.Generator().manual_seed(0))
    offset = draw_noise(torch.Size((2, 3, 8, 8)), rng, offset=0.5) - plain
    assert torch.allclose(offset, offset[:, :, :1, :1].expand_as(offset), atol=1e-6)
    assert offset[0, 0, 0, 0] != offset[0, 1, 0, 0]


def test_pyramid_has_unit_deviation_and_more_low_frequency() -> None:
    shape = torch.Size((4, 4, 32, 32))
    plain = draw_noise(shape, torch.Generator().manual_seed(0))
    pyramid = draw_noise(
        shape, torch.Generator().manual_seed(0), pyramid_levels=5, pyramid_discount=0.6
    )
    torch.testing.assert_close(pyramid.flatten(1).std(1), torch.ones(4))

    def coarse(x: torch.Tensor) -> float:
        return torch.nn.functional.avg_pool2d(x, 8).std().item()

    assert coarse(pyramid) > 1.2 * coarse(plain)


def test_offset_and_pyramid_equal_a_plain_loop() -> None:
    shape, discount = torch.Size((2, 3, 12, 8)), 0.3
    found = draw_noise(
        shape,
        torch.Generator().manual_seed(4),
        offset=0.05,
        pyramid_levels=9,
        pyramid_discount=discount,
    )

    rng = torch.Generator().manual_seed(4)
    expected = torch.randn(shape, generator=rng)
    expected = expected + 0.05 * torch.randn(2, 3, 1, 1, generator=rng)
    for level, size in ((1, (6, 4)), (2, (3, 2)), (3, (1, 1))):  # and no further
        coarse = torch.randn(2, 3, *size, generator=rng)
        expected = expected + discount**level * torch.nn.functional.interpolate(
            coarse, size=(12, 8), mode="bilinear", align_corners=False
        )
    for sample in expected:
        sample /= sample.std()
    torch.testing.assert_close(found, expected)


def test_flux_shift_table() -> None:
    assert flux_shift(1024) == pytest.approx(1.8776, abs=1e-4)
    assert flux_shift(4096) == pytest.approx(3.1582, abs=1e-4)
    assert flux_shift(9216) == pytest.approx(7.513, abs=1e-3)


def test_shift_and_sigmoid_by_hand() -> None:
    assert shift_levels(torch.tensor([0.5]), 3.0).item() == pytest.approx(0.75)
    u = torch.tensor([0.5, 0.8413447])  # the second is one standard deviation above the mean
    expected = [0.5, 1 / (1 + 2.718281828**-1)]
    assert sigmoid_normal(u).tolist() == pytest.approx(expected, abs=1e-6)
