"""The tiny models' weights: size, determinism, independence of the global generator; knowledge."""

import hashlib

import pytest
import torch
from safetensors.torch import load_file

from trustopt.hosts.shapes import model_shapes
from trustopt.hosts.tiny.specs import spec
from trustopt.hosts.tiny.weights import PRETRAINED, tiny_state_dict

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
def test_untrained_ones_have_the_same_bits_on_every_machine(family, expected):
    assert digest(tiny_state_dict(family, pretrained=False)) == expected


@pytest.mark.parametrize("family", FAMILIES)
def test_finite_float32_and_not_constant(family):
    for part in tiny_state_dict(family).values():
        for name, tensor in part.items():
            assert tensor.dtype == torch.float32
            assert torch.isfinite(tensor).all(), name
            if tensor.ndim > 1:
                assert tensor.std() > 0, name


@pytest.mark.parametrize("pretrained", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_tensor_of_the_layout_and_no_other(family, pretrained):
    found = tiny_state_dict(family, pretrained=pretrained)
    shapes = {part: {n: tuple(t.shape) for n, t in named.items()} for part, named in found.items()}
    assert shapes == model_shapes(spec(family))


def test_the_pretrained_file_is_small_and_in_half_precision():
    assert PRETRAINED["sdxl"].stat().st_size <= 15e6
    assert {t.dtype for t in load_file(PRETRAINED["sdxl"]).values()} == {torch.float16}


def test_global_generator_untouched():
    before = torch.get_rng_state()
    tiny_state_dict("sdxl")
    assert torch.equal(torch.get_rng_state(), before)


def test_unknown_family_is_named():
    with pytest.raises(ValueError, match="'sd15'; choose sdxl or flux"):
        tiny_state_dict("sd15")
