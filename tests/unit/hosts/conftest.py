"""The tiny models of both families, built once, and a batch for them.

Untrained ones: of even size in all layers, so that rounding stays within narrow bounds.
"""

import pytest
import torch

from trustopt.host import Conditioning, Geometry
from trustopt.hosts.loading import load_tiny

CAPTIONS = ("a red cat, sitting", "dog")


@pytest.fixture(autouse=True)
def _one_thread():
    """Tiny matrices run fastest on one thread, above all beside other work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def sdxl():
    return load_tiny("sdxl", pretrained=False)


@pytest.fixture(scope="session")
def flux():
    return load_tiny("flux")


@pytest.fixture(scope="session", params=["sdxl", "flux"])
def host(request):
    return request.getfixturevalue(request.param)


class Batch:
    """Two noised latents with their noise levels, prompts and a target."""

    def __init__(self, host, *, size=(8, 12), seed=0):
        generator = torch.Generator().manual_seed(seed)
        shape = (2, host.latent_channels, *size)
        self.noised = torch.randn(shape, generator=generator)
        self.target = torch.randn(shape, generator=generator)
        self.sigma = torch.tensor([0.35, 0.8])
        pictures = [
            Geometry(original=(300, 200), crop=(4, 6), target=(96, 64)),
            Geometry(original=(128, 64), crop=(0, 0), target=(96, 64)),
        ]
        self.conditioning = Conditioning(
            prompts=host.encode_prompts(CAPTIONS), geometry=pictures, guidance=3.5
        )

    def run(self, host):
        return host.denoise(self.noised, self.sigma, self.conditioning)


@pytest.fixture(scope="session")
def make_batch():
    return Batch
