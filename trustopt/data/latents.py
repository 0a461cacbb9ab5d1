"""Latents of the placed pictures: encoded once, kept as mean and deviation, cached by content."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..host import LatentDistribution
from .buckets import Placement
from .images import cut_mask, cut_picture
from .samples import Sample
from .store import TensorStore

EncodeImages = Callable[[Tensor], LatentDistribution]
"""``Host.encode_images``: pixels ``(B, 3, H, W)`` float32 in [0, 1] -> posterior."""

FORMAT = "latents 1"
"""Part of every key: a new way of cutting or encoding must not read old files."""


@dataclass(frozen=True)
class CachedLatent:
    """One picture in one placement, all float32 on the CPU."""

    mean: Tensor
    """``(C, h, w)``"""
    std: Tensor
    """``(C, h, w)``"""
    mask: Tensor | None
    """``(1, h, w)`` in [0, 1], or None."""

    def sample(self, generator: torch.Generator) -> Tensor:
        """Draw a latent ``(C, h, w)``: ``mean + std * eps``."""
        return self.mean + self.std * torch.randn(self.mean.shape, generator=generator)


class LatentCache:
    """Latents by picture content, placement and VAE.

    Args:
        encode: Turns pixels into latents.
        vae_identity: What tells this VAE from others.
        folder: Where to keep files; None keeps latents in memory.

    Attributes:
        num_encoded: Calls of ``encode`` so far.
    """

    def __init__(
        self, encode: EncodeImages, vae_identity: Mapping[str, str], folder: Path | None
    ) -> None:
        self._encode = encode
        self._identity = dict(vae_identity)
        self._store = TensorStore(folder)
        self.num_encoded = 0

    def prepare(self, sample: Sample, placement: Placement) -> str:
        """Make sure the latent is cached and return its key.

        Raises:
            UnusablePictureError: If the picture or its mask cannot be decoded.
            OSError: If its file is gone.
        """
        key = self._key(sample, placement)
        if not self._is_cached(key, sample):
            tensors = self._make(sample, placement)
            self._store.save(key, tensors, {"picture": sample.name, "format": FORMAT})
        return key

    def load(self, key: str) -> CachedLatent:
        """Return a latent that ``prepare`` cached.

        Raises:
            ValueError: If its file vanished meanwhile.
        """
        tensors = self._store.load(key)
        return CachedLatent(tensors["mean"], tensors["std"], tensors.get("mask"))

    def _is_cached(self, key: str, sample: Sample) -> bool:
        shapes = self._store.shapes(key)
        if shapes is None or "mean" not in shapes or shapes["mean"] != shapes.get("std"):
            return False
        return ("mask" in shapes) == (sample.mask is not None)

    def _make(self, sample: Sample, placement: Placement) -> dict[str, Tensor]:
        picture = torch.from_numpy(cut_picture(sample, placement).copy())
        mask = cut_mask(sample, placement)
        pixels = picture.permute(2, 0, 1).unsqueeze(0).float() / 255.0
        latents = self._encode(pixels)
        self.num_encoded += 1
        tensors = {"mean": latents.mean[0].float(), "std": latents.std[0].float()}
        if mask is not None:
            tensors["mask"] = torch.nn.functional.adaptive_avg_pool2d(
                torch.from_numpy(mask).unsqueeze(0), tensors["mean"].shape[-2:]
            )
        return tensors

    def _key(self, sample: Sample, placement: Placement) -> str:
        parts = {
            "format": FORMAT,
            "picture": sample.digest,
            "mask": "alpha" if isinstance(sample.mask, str) else sample.mask_digest,
            "placement": asdict(placement),
            "vae": self._identity,
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:40]
