"""Latents of the placed pictures: encoded once, kept as mean and deviation, cached by content."""

import hashlib
import json
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..host import LatentDistribution
from .buckets import Placement
from .images import UnusablePictureError, cut_mask, cut_picture
from .samples import Pixels, Sample
from .store import TensorStore

EncodeImages = Callable[[Tensor], LatentDistribution]
"""``Host.encode_images``: pixels ``(B, 3, H, W)`` float32 in [0, 1] -> posterior."""

FORMAT = "latents 1"
"""Part of every key: a new way of cutting or encoding must not read old files."""

NUM_DECODERS = 4
"""Threads that decode ahead; Pillow releases the interpreter lock, so the encoder never waits."""


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
        eps = torch.randn(self.mean.shape, generator=generator)
        return eps.mul_(self.std).add_(self.mean)


@dataclass(frozen=True)
class Outcome:
    """What became of one picture."""

    keys: tuple[str, ...] = ()
    """Of its latents, one a placement."""
    failure: str = ""
    """Why it cannot be used; then there are no keys."""


@dataclass(frozen=True)
class _Cut:
    """Pixels of one placement that wait to be encoded."""

    name: str
    """Of the picture."""
    key: str
    pixels: Pixels
    mask: NDArray[np.float32] | None


_Missing = tuple[tuple[str, ...], list[_Cut]]
"""Keys of all placements of a picture, and the pixels of those not cached."""


class LatentCache:
    """Latents by picture content, placement and VAE.

    Args:
        vae_identity: What tells this VAE from others.
        folder: Where to keep files; None keeps latents in memory.
    """

    def __init__(self, vae_identity: Mapping[str, str], folder: Path | None) -> None:
        self._identity = dict(vae_identity)
        self._store = TensorStore(folder)

    def prepare(
        self,
        encode: EncodeImages,
        samples: Sequence[Sample],
        views: Sequence[Sequence[Placement]],
    ) -> Generator[Outcome, None, None]:
        """Cache the latents of each picture in turn, decoding the next ones meanwhile.

        Pictures are encoded one by one: batches round differently, and what a latent is must not
        depend on which others were already cached.

        Args:
            encode: Turns pixels into latents; called only for what is not cached.
            samples: The pictures.
            views: For each picture its placements.

        Yields:
            What became of each picture, in order.

        Raises:
            ValueError: If the VAE gives something that is not finite.
        """
        work = iter(zip(samples, views, strict=True))
        with ThreadPoolExecutor(NUM_DECODERS, thread_name_prefix="trustopt-decode") as pool:
            ahead: deque[Future[_Missing]] = deque()
            for _ in range(len(samples)):
                while len(ahead) < NUM_DECODERS and (following := next(work, None)):
                    ahead.append(pool.submit(self._cut_missing, *following))
                yield self._finish(encode, ahead.popleft())

    def load(self, key: str) -> CachedLatent:
        """Return a latent that ``prepare`` cached.

        Raises:
            ValueError: If its file vanished meanwhile.
        """
        tensors = self._store.load(key)
        return CachedLatent(tensors["mean"], tensors["std"], tensors.get("mask"))

    def _cut_missing(self, sample: Sample, placements: Sequence[Placement]) -> _Missing:
        """Return the keys of all placements and the pixels of those not cached."""
        cuts = {}
        keys = tuple(self._key(sample, placement) for placement in placements)
        for key, placement in zip(keys, placements, strict=True):
            if key not in cuts and not self._is_cached(key, sample):
                pixels = cut_picture(sample, placement)
                cuts[key] = _Cut(sample.name, key, pixels, cut_mask(sample, placement))
        return keys, list(cuts.values())

    def _finish(self, encode: EncodeImages, pending: Future[_Missing]) -> Outcome:
        try:
            keys, cuts = pending.result()
        except UnusablePictureError as error:
            return Outcome(failure=str(error))
        except OSError as error:
            return Outcome(failure=f"cannot be read any more ({error})")
        for cut in cuts:
            self._store.save(cut.key, _encode_cut(encode, cut), {"format": FORMAT})
        return Outcome(keys=keys)

    def _is_cached(self, key: str, sample: Sample) -> bool:
        shapes = self._store.shapes(key)
        if shapes is None or "mean" not in shapes or shapes["mean"] != shapes.get("std"):
            return False
        return ("mask" in shapes) == (sample.mask is not None)

    def _key(self, sample: Sample, placement: Placement) -> str:
        parts = {
            "format": FORMAT,
            "picture": sample.digest,
            "mask": "alpha" if isinstance(sample.mask, str) else sample.mask_digest,
            "placement": asdict(placement),
            "vae": self._identity,
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:40]


def _encode_cut(encode: EncodeImages, cut: _Cut) -> dict[str, Tensor]:
    pixels = torch.tensor(cut.pixels).permute(2, 0, 1).unsqueeze(0).float() / 255.0
    latents = encode(pixels)
    tensors = {"mean": latents.mean[0].float(), "std": latents.std[0].float()}
    if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
        raise ValueError(
            f"the VAE gives latents that are not finite for {cut.name}: it overflows in half "
            "precision; run it in float32 (ComfyUI: start it with --fp32-vae)"
        )
    if cut.mask is not None:
        tensors["mask"] = torch.nn.functional.adaptive_avg_pool2d(
            torch.tensor(cut.mask).unsqueeze(0), tensors["mean"].shape[-2:]
        )
    return tensors
