"""Weight conversion against diffusers' own single-file converters."""

import pytest
import torch
from diffusers.loaders import single_file_utils as theirs

from trustopt.hosts.conversion import swap_halves, to_diffusers
from trustopt.hosts.layouts.flux import FluxLayout
from trustopt.hosts.names import flux_names, unet_names, vae_names
from trustopt.hosts.shapes import flux_shapes
from trustopt.hosts.tiny.specs import SDXL
from trustopt.hosts.tiny.weights import tiny_state_dict


def numbered(weights):
    """Return the weights made distinct: norms are all ones, and would hide a swap."""
    return {name: t + torch.arange(t.numel()).view(t.shape) for name, t in weights.items()}


def prefixed(weights, prefix):
    return {prefix + name: tensor.clone() for name, tensor in weights.items()}


@pytest.fixture(scope="module", params=["sdxl", "flux", "vae"])
def both(request):
    """Return ``(ours, diffusers')`` conversions of the same numbers."""
    sdxl = tiny_state_dict("sdxl")
    if request.param == "sdxl":
        weights = numbered(sdxl["unet"])
        config = SDXL.unet.diffusers_config() | {"class_embed_type": None}
        expected = theirs.convert_ldm_unet_checkpoint(
            prefixed(weights, "model.diffusion_model."), config
        )
        return to_diffusers(weights, unet_names(SDXL.unet)), expected
    if request.param == "flux":
        # Theirs knows the full width only; one column of each matrix is enough to follow rows.
        layout = FluxLayout(double_blocks=1, single_blocks=1)
        shapes = flux_shapes(layout)
        weights = numbered({name: torch.zeros(shapes[name][0], 1) for name in shapes})
        expected = theirs.convert_flux_transformer_checkpoint_to_diffusers(prefixed(weights, ""))
        return to_diffusers(weights, flux_names(layout)), expected
    weights = numbered(sdxl["vae"])
    expected = theirs.convert_ldm_vae_checkpoint(
        prefixed(weights, "first_stage_model."), SDXL.vae.diffusers_config()
    )
    return to_diffusers(weights, vae_names(SDXL.vae)), expected


def test_equals_diffusers_converter(both):
    ours, expected = both
    assert set(ours) == set(expected)
    for name, tensor in expected.items():
        assert torch.equal(ours[name], tensor), name


def test_swapping_twice_changes_nothing():
    x = torch.arange(12.0).view(6, 2)
    assert swap_halves(x, 0)[0, 0] == 6.0
    assert torch.equal(swap_halves(swap_halves(x, 0), 0), x)
