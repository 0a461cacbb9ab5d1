"""Mirrors trustopt/diffusion/losses.py: values worked out by hand."""

import pytest
import torch

from trustopt.diffusion.losses import (
    debiased_weight,
    huber_width,
    min_snr_weight,
    per_sample_loss,
    signal_to_noise,
)

TWO = torch.tensor([[[[3.0, 4.0]]]])  # difference to zero: 3 and 4
ZERO = torch.zeros_like(TWO)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        ("mse", (9.0 + 16.0) / 2),
        ("mae", 3.5),
        ("huber", (2 * 4 * (5 - 4) + 2 * 4 * (32**0.5 - 4)) / 2),  # c = 4: sqrt(9+16) = 5
        ("smooth_l1", (2 * (5 - 4) + 2 * (32**0.5 - 4)) / 2),
    ],
)
def test_losses_by_hand(loss: str, expected: float) -> None:
    got = per_sample_loss(TWO, ZERO, loss=loss, c=torch.tensor([4.0]))
    torch.testing.assert_close(got, torch.tensor([expected]))


def test_mask_normalises_by_its_own_area() -> None:
    loss = per_sample_loss(TWO, ZERO, mask=torch.tensor([[[[1.0, 0.0]]]]))
    assert loss.tolist() == [9.0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_outputs_are_reduced_in_float32(dtype: torch.dtype) -> None:
    output = torch.full((2, 4, 64, 64), 1.0, dtype=dtype)
    loss = per_sample_loss(output, torch.zeros_like(output))
    assert loss.dtype == torch.float32
    assert loss.tolist() == [1.0, 1.0]


def test_refuses_to_broadcast() -> None:
    with pytest.raises(ValueError, match="differ"):
        per_sample_loss(torch.zeros(2, 4, 8, 8), torch.zeros(1, 4, 8, 8))


def test_huber_keeps_small_differences() -> None:
    tiny = torch.full((1, 1, 1, 1), 1e-4)
    got = per_sample_loss(tiny, torch.zeros_like(tiny), loss="huber", c=torch.tensor([1.0]))
    torch.testing.assert_close(got, torch.tensor([1e-8]), rtol=1e-4, atol=0)


def test_huber_width_runs_from_one_to_c() -> None:
    ends = torch.tensor([0.0, 1.0])
    torch.testing.assert_close(huber_width(ends, 0.1, flow=True), torch.tensor([1.0, 0.1]))
    torch.testing.assert_close(
        huber_width(torch.tensor([0.0, 1.0]), 0.1, flow=False), torch.tensor([1.0, 0.9 / 4 + 0.1])
    )


def test_weights_by_hand() -> None:
    snr = signal_to_noise(torch.tensor([0.5, 1.0, 2.0]), flow=False)
    assert snr.tolist() == [4.0, 1.0, 0.25]
    assert signal_to_noise(torch.tensor([0.5, 0.25]), flow=True).tolist() == [1.0, 9.0]
    assert min_snr_weight(snr, 2.0, v_prediction=False).tolist() == [0.5, 1.0, 1.0]
    assert min_snr_weight(snr, 2.0, v_prediction=True).tolist() == pytest.approx([0.4, 0.5, 0.2])
    assert debiased_weight(snr, v_prediction=False).tolist() == [0.5, 1.0, 2.0]
    assert debiased_weight(snr, v_prediction=True).tolist() == pytest.approx([0.2, 0.5, 0.8])
