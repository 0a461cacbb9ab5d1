"""Real small pictures, and a host that counts what it is asked to encode."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from trustopt.host import LatentDistribution


class CountingHost:
    """Encodes pictures by averaging 8 x 8 pixels and captions by their length."""

    pixel_multiple = 8

    def __init__(self, name: str = "first") -> None:
        self.name = name
        self.encoded_shapes: list[tuple[int, ...]] = []
        self.encoded_captions: list[str] = []

    def identity(self):
        return {"name": "any network", "vae": self.name, "text_encoders": self.name}

    def encode_images(self, pixels):
        self.encoded_shapes.append(tuple(pixels.shape))
        mean = torch.nn.functional.avg_pool2d(pixels, 8)
        return LatentDistribution(mean=mean, std=torch.full_like(mean, 0.125))

    def encode_prompts(self, captions):
        self.encoded_captions += captions
        return [
            {
                "context": torch.full((2, 3), float(len(c)), dtype=torch.bfloat16),
                "pooled": torch.ones(4),
            }
            for c in captions
        ]


@pytest.fixture
def host():
    return CountingHost()


@pytest.fixture
def other_host():
    return CountingHost("second")


@pytest.fixture
def draw():
    """Write a smooth picture, different for each seed; the extension chooses the format."""

    def write(path: Path, size=(64, 48), seed=0, mode="RGB", **options) -> Path:
        pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        image = Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)
        path.parent.mkdir(parents=True, exist_ok=True)
        image.convert(mode).save(path, **options)
        return path

    return write
