"""Mirrors trustopt/adapters/resize.py."""

from typing import Any

import pytest
import torch

from trustopt.adapters import resize, select_layers
from trustopt.adapters.patch import LayerPatch, delta
from trustopt.config import AdapterConfig


def with_spectrum(values: list[float], *, alpha: float = 2.0, seed: int = 0) -> LayerPatch:
    """A patch whose change has exactly these singular values."""
    source, rank = torch.Generator().manual_seed(seed), len(values)
    left = torch.linalg.qr(torch.randn(20, rank, generator=source, dtype=torch.float64))[0]
    right = torch.linalg.qr(torch.randn(16, rank, generator=source, dtype=torch.float64))[0]
    up = left * torch.tensor(values, dtype=torch.float64) * rank / alpha
    factors = {"lora_down.weight": right.T.float().contiguous(), "lora_up.weight": up.float()}
    return LayerPatch("lora", factors, alpha)


def test_lower_rank_is_the_best_one_and_reports_what_is_kept() -> None:
    patch = with_spectrum([4.0, 2.0, 1.0, 0.5])
    resized, report = resize({"img_in": patch}, rank=2)
    new = resized["img_in"]
    assert (new.rank, new.scale) == (2, pytest.approx(0.5))
    error = (delta(new) - delta(patch)).norm()
    assert float(error) == pytest.approx((1.0 + 0.25) ** 0.5, rel=1e-4)  # Eckart-Young
    assert report.retained["img_in"] == pytest.approx(20 / 21.25, rel=1e-4)
    assert report.total_retained == report.retained["img_in"]
    assert "rank 2" in report.summary()


@pytest.mark.parametrize(("energy", "rank"), [(1.0, 4), (0.99, 4), (0.98, 3), (0.5, 1), (0.94, 2)])
def test_energy_takes_the_lowest_rank_that_keeps_it(energy: float, rank: int) -> None:
    patch = with_spectrum([4.0, 2.0, 1.0, 0.5])  # shares 0.753, 0.941, 0.988, 1
    resized, report = resize({"img_in": patch}, energy=energy)
    assert resized["img_in"].rank == rank
    assert report.retained["img_in"] >= energy - 1e-6


def test_energy_and_rank_together_are_both_bounds() -> None:
    patches = {"img_in": with_spectrum([4.0, 2.0, 1.0, 0.5]), "txt_in": with_spectrum([1.0, 1e-4])}
    resized, report = resize(patches, rank=2, energy=0.999)
    assert (resized["img_in"].rank, resized["txt_in"].rank) == (2, 1)
    assert "ranks 1 to 2" in report.summary()
    assert "least" in report.summary()
    assert "img_in" in report.summary()


def test_full_rank_changes_nothing() -> None:
    patch = with_spectrum([3.0, 1.0])
    resized, report = resize({"img_in": patch}, rank=64)
    torch.testing.assert_close(delta(resized["img_in"]), delta(patch), rtol=1e-5, atol=1e-6)
    assert report.total_retained == pytest.approx(1.0)


@pytest.mark.parametrize("algorithm", ["lora", "locon", "dora", "loha", "lokr"])
def test_every_algorithm_and_convolutions(
    algorithm: Any, tiny_sdxl_layers: dict, trained: Any
) -> None:
    config = AdapterConfig(algorithm=algorithm, rank=4, conv_rank=4, regex="input_blocks.4.0")
    layers = select_layers(tiny_sdxl_layers, config, "sdxl")
    patches = trained(layers, config).patches()
    full, _ = resize(patches, energy=1.0)
    for name, patch in patches.items():
        torch.testing.assert_close(
            delta(full[name], delta(patch).shape), delta(patch), rtol=1e-4, atol=1e-5
        )
        assert full[name].form == "lora"
        assert full[name].is_dora == (algorithm == "dora")
    small, report = resize(patches, rank=2)
    assert all(patch.rank == 2 for patch in small.values())
    assert 0.0 < report.total_retained < 1.0
    kernel = small["input_blocks.4.0.in_layers.2"].tensors["lora_down.weight"].numel()
    assert kernel == 2 * layers["input_blocks.4.0.in_layers.2"].in_features * 9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "needs a rank, an energy"),
        ({"rank": 0}, "rank must be at least 1"),
        ({"energy": 0.0}, r"energy must be in \(0, 1\]"),
        ({"energy": 1.5}, r"energy must be in \(0, 1\]"),
    ],
)
def test_impossible_bounds(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resize({"img_in": with_spectrum([1.0])}, **options)


def test_oft_has_no_rank() -> None:
    oft = LayerPatch("oft", {"oft_blocks": torch.zeros(1, 2, 2)}, 0.0)
    with pytest.raises(ValueError, match="img_in is an oft, which has no rank"):
        resize({"img_in": oft}, rank=1)
