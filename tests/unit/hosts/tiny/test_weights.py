"""The tiny models' weights: size, determinism, independence of the global generator."""

import hashlib

import pytest
import torch

from trustopt.hosts.tiny.weights import tiny_state_dict

FAMILIES = ("sdxl", "flux")


def digest(weights) -> str:
    """Return a hash over every tensor's name and bytes."""
    total = hashlib.sha256()
    for component in sorted(weights):
        for name in sorted(weights[component]):
            total.update(f"{component}.{name}".encode())
            total.update(weights[component][name].numpy().tobytes())
    return total.hexdigest()[:16]


@pytest.mark.parametrize("family", FAMILIES)
def test_small_enough_to_ship(family):
    count = sum(t.numel() for part in tiny_state_dict(family).values() for t in part.values())
    assert 4e6 < count <= 7.4e6  # 7.4 million fp16 numbers are 14.8 MB


@pytest.mark.parametrize(
    ("family", "expected"), [("sdxl", "1200d6d4cd40bee3"), ("flux", "15be1cfae6bd84e1")]
)
def test_same_bits_on_every_machine(family, expected):
    assert digest(tiny_state_dict(family)) == expected


@pytest.mark.parametrize("family", FAMILIES)
def test_finite_float32_and_not_constant(family):
    for part in tiny_state_dict(family).values():
        for name, tensor in part.items():
            assert tensor.dtype == torch.float32
            assert torch.isfinite(tensor).all(), name
            if tensor.ndim > 1:
                assert tensor.std() > 0, name


def test_global_generator_untouched():
    before = torch.get_rng_state()
    tiny_state_dict("sdxl")
    assert torch.equal(torch.get_rng_state(), before)


def test_unknown_family_is_named():
    with pytest.raises(ValueError, match="'sd15'; choose sdxl or flux"):
        tiny_state_dict("sd15")
