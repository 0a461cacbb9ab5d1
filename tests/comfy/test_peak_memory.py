"""Memory of a training step at full size, counted exactly and without a GPU.

Rank 16 on the default layers, bfloat16, 1024 x 1024 pixels, one picture.
"""

import functools

import pytest
import torch
from trustopt_test_simulator import GIB, Counts, step

PARAMETERS = {"sdxl": 2_567_463_684, "flux": 11_901_408_320}


@functools.cache
def counts(family: str, checkpointing: bool) -> Counts:
    return step(family, checkpointing=checkpointing)


@pytest.mark.parametrize(("family", "bound"), [("sdxl", 0.68), ("flux", 2.5)])
def test_peak_with_checkpointing(family, bound) -> None:
    found = counts(family, True)
    assert found.parameters == pytest.approx(PARAMETERS[family], rel=1e-4)
    assert 0.1 * GIB < found.peak < bound * GIB


@pytest.mark.parametrize(
    ("family", "weights_in", "bound"),
    [("sdxl", None, 7.0), ("flux", torch.float8_e4m3fn, 16.0)],
)
def test_everything_fits_a_card(family, weights_in, bound) -> None:
    found = step(family, checkpointing=True, weights_in=weights_in)
    least = found.parameters * (weights_in or torch.bfloat16).itemsize
    assert least < found.total < bound * GIB


@pytest.mark.parametrize(("family", "bound"), [("sdxl", 6.4), ("flux", 32.5)])
def test_peak_without_checkpointing(family, bound) -> None:
    assert counts(family, False).peak < bound * GIB


@pytest.mark.parametrize("family", ["sdxl", "flux"])
def test_checkpointing_saves_almost_nine_tenths(family) -> None:
    assert counts(family, True).peak < 0.11 * counts(family, False).peak


@pytest.mark.parametrize("checkpointing", [False, True], ids=["plain", "checkpointed"])
@pytest.mark.parametrize("family", ["sdxl", "flux"])
def test_the_plans_estimate_is_right_within_a_tenth(family, checkpointing) -> None:
    found = counts(family, checkpointing)
    assert found.estimate == pytest.approx(found.peak, rel=0.1)


@pytest.mark.parametrize(
    "settings",
    [
        {"pixels": 512, "batch": 4, "checkpointing": True},
        {"targets": "attention", "checkpointing": False},
    ],
    ids=["512 px, batch 4", "attention only"],
)
def test_the_estimate_holds_for_other_sizes_and_layers(settings) -> None:
    found = step("flux", **settings)
    assert found.estimate == pytest.approx(found.peak, rel=0.1)


@pytest.mark.parametrize(("checkpointing", "bound"), [(False, 8_000), (True, 11_000)])
def test_kernels_of_an_sdxl_step(checkpointing, bound) -> None:
    """Small pictures leave a GPU waiting for launches."""
    assert 5_000 < counts("sdxl", checkpointing).kernels < bound
