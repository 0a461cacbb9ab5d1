"""``trustopt bench data``: loading pictures, a warm cache, and batches from few and many pictures.

Nothing is trained and no model is loaded: the encoders return constants of a FLUX model's sizes at
1024 px, so what is timed is reading, cutting, caching and batching alone.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..config import DataConfig
from ..data import ImageSet, Sample, TrainingSet, image_set_from_arrays, prepare
from ..data.buckets import place
from ..data.images import cut_picture
from ..host import LatentDistribution, Prompt

SIDE = 1536
STATUS = Path("/proc/self/status")


class ConstantEncoders:
    """What ``prepare`` asks of a host, without a model."""

    pixel_multiple = 16

    def __init__(self) -> None:
        self.calls = 0

    def identity(self) -> dict[str, str]:
        """Return names that no real encoder has."""
        return {"vae": "constant", "text_encoders": "constant"}

    def encode_images(self, pixels: torch.Tensor) -> LatentDistribution:
        """Return zero latents of FLUX's 16 channels."""
        self.calls += 1
        mean = torch.zeros(1, 16, pixels.shape[2] // 8, pixels.shape[3] // 8)
        return LatentDistribution(mean=mean, std=mean)

    def encode_prompts(self, captions: Sequence[str]) -> list[Prompt]:
        """Return zero prompts of 512 T5 tokens in bf16."""
        self.calls += len(captions)
        context = torch.zeros(512, 4096, dtype=torch.bfloat16)
        return [{"context": context, "pooled": torch.zeros(768)} for _ in captions]


def main(arguments: Sequence[str]) -> int:
    """Run the benchmark and return 0."""
    parser = argparse.ArgumentParser(prog="trustopt bench data", description=__doc__)
    parser.add_argument("--images", type=int, default=256, help="pictures of the large set")
    count = parser.parse_args(arguments).images
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        bench_loading(Path(folder))
        few = bench_batches(Path(folder), 4)
        many = bench_batches(Path(folder), count)
    print(f"batch from {count} pictures / from 4: {many / few:.3f}")
    return 0


def bench_loading(folder: Path) -> None:
    """Compare cutting a JPEG with loading it whole and resizing it."""
    generator = np.random.default_rng(0)
    blocks = np.kron(generator.integers(0, 256, (96, 96, 3)), np.ones((16, 16, 1)))
    pixels = (blocks + generator.normal(0, 12, blocks.shape)).clip(0, 255).astype(np.uint8)
    path = folder / "picture.jpg"
    Image.fromarray(pixels).save(path, quality=92)
    sample = Sample(name="picture", source=path, caption="", width=SIDE, height=SIDE)
    print(f"{SIDE} x {SIDE} JPEG, processor ms: ours, loaded whole and resized, ratio")
    for side in (1024, 768, 512):
        placement = place((SIDE, SIDE), (side, side))
        ours = best_ms(lambda placement=placement: cut_picture(sample, placement))
        plain = best_ms(lambda side=side: load_plainly(path, side))
        print(f"  to {side:>4}: {ours:6.1f} {plain:6.1f} {plain / ours:5.2f}x")


def load_plainly(path: Path, side: int) -> np.ndarray:
    """Load whole as float, then resize in uint8: what a chain of ComfyUI's image nodes does."""
    with Image.open(path) as image:
        pixels = np.array(image.convert("RGB")).astype(np.float32) / 255.0
    image = Image.fromarray(np.clip(255.0 * pixels, 0, 255).astype(np.uint8))
    return np.array(image.resize((side, side), Image.Resampling.LANCZOS)).astype(np.float32) / 255.0


def bench_batches(folder: Path, count: int) -> float:
    """Prepare a set twice, take batches, print, and return the milliseconds of one batch."""
    images = [np.full((64, 64, 3), (i % 256, i // 256, 0), np.uint8) for i in range(count)]
    captions = max(1, count // 2)  # every second picture has the caption of another one
    texts = [f"a caption {i % captions}" for i in range(count)]
    image_set = image_set_from_arrays(images, texts)
    cold, warm = ConstantEncoders(), ConstantEncoders()
    cache_dir = folder / f"cache of {count}"
    prepared(image_set, cold, cache_dir)
    started = time.process_time()
    training_set = prepared(image_set, warm, cache_dir)
    warm_ms = (time.process_time() - started) * 1e3 / count
    stream = training_set.batches(1, 1, torch.Generator().manual_seed(0))
    for _ in range(8):
        next(stream)
    before = resident_mib()
    batch_ms = best_ms(lambda: next(stream), repeats=max(64, count))
    grown = (resident_mib() - before) / count
    print(
        f"{count} pictures: second preparation {warm_ms:.2f} ms a picture and {warm.calls} encoder "
        f"calls ({cold.calls} the first time); batch {batch_ms:.2f} ms; "
        f"{max(0.0, grown):.3f} MiB of memory a picture"
    )
    sizes = {name: mean_size(cache_dir / name) / 1e6 for name in ("latents", "prompts")}
    print(
        f"  on disk: {sizes['latents']:.2f} MB a picture, {sizes['prompts']:.2f} MB a caption "
        f"({captions} different ones, {cold.calls - count} encoded)"
    )
    return batch_ms


def mean_size(folder: Path) -> float:
    """Return the mean size of a folder's files in bytes."""
    sizes = [path.stat().st_size for path in folder.iterdir()]
    return sum(sizes) / len(sizes)


def prepared(image_set: ImageSet, encoders: ConstantEncoders, cache_dir: Path) -> TrainingSet:
    """Prepare a set at 1024 px with a cache on disk."""
    return prepare(
        image_set,
        DataConfig(resolution=1024),
        encoders,  # type: ignore[arg-type]
        cache_dir=cache_dir,
        seed=0,
        progress=lambda stage, done, total: None,
    )


def best_ms(work: Callable[[], object], repeats: int = 9) -> float:
    """Return the least processor time of several calls, in milliseconds."""
    times = []
    for _ in range(repeats):
        started = time.process_time()
        work()
        times.append(time.process_time() - started)
    return min(times) * 1e3


def resident_mib() -> float:
    """Return the memory of this process, or 0 where the system does not tell."""
    if not STATUS.exists():
        return 0.0
    line = next(x for x in STATUS.read_text().splitlines() if x.startswith("VmRSS"))
    return int(line.split()[1]) / 1024
