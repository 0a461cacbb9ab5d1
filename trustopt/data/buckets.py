"""Aspect-ratio buckets: the size each picture trains at, and how it is resized and cropped."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ..config import DataConfig
from ..host import Geometry
from .samples import listed

Size = tuple[int, int]
"""``(width, height)`` in pixels."""

MIN_AREA = 0.9
"""Smallest area of a bucket, as a share of the resolution squared."""
MAX_ASPECT = 4.0
"""Most elongated bucket; SDXL was itself trained on 1:4 to 4:1 (arXiv:2307.01952, appendix I)."""
CROP_POSITIONS = (0.5, 0.0, 0.25, 0.75, 1.0)
"""Crops of a picture with ``random_crop``, the centre first: encoded once each, taking turns."""


@dataclass(frozen=True, kw_only=True)
class Placement:
    """How one picture becomes the pixels of one bucket: resize, crop, then mirror."""

    original: Size
    resized: Size
    """Covers the bucket; one side is equal to the bucket's, up to rounding."""
    crop: tuple[int, int]
    """``(left, top)`` of the bucket in the resized picture."""
    bucket: Size
    flipped: bool = False

    @property
    def geometry(self) -> Geometry:
        """SDXL's size and crop labels; of a mirrored picture, the crop of the mirrored one."""
        left, top = self.crop
        if self.flipped:
            left = self.resized[0] - self.bucket[0] - left
        return Geometry(original=self.original, crop=(left, top), target=self.bucket)

    @property
    def scale(self) -> float:
        """Enlargement; below 1 the picture is shrunk."""
        return max(self.resized[0] / self.original[0], self.resized[1] / self.original[1])

    @property
    def cropped(self) -> float:
        """Share of the picture's area outside the crop, in [0, 1)."""
        return 1.0 - math.prod(self.bucket) / math.prod(self.resized)


@dataclass(frozen=True)
class BucketRules:
    """What the bucket sizes of one resolution must keep to."""

    resolution: int
    """Side of the square whose area is the largest allowed, pixels."""
    step: int
    """Sides are multiples of this; itself a multiple of ``multiple``."""
    multiple: int
    """What the model's sides must be multiples of."""
    upscale: bool = True


def bucket_rules(
    resolution: int, *, bucket_step: int, multiple: int, upscale: bool = True
) -> BucketRules:
    """Return the rules of a resolution; small ones get a finer step, to offer the same shapes.

    Raises:
        ValueError: If the resolution is below the smallest side the model takes.
    """
    if resolution < multiple:
        raise ValueError(
            f"resolution must be at least {multiple} pixels for this model, got {resolution}"
        )
    finest = min(bucket_step, resolution // 16) // multiple * multiple
    return BucketRules(resolution, max(multiple, finest), multiple, upscale)


def bucket_sizes(rules: BucketRules) -> list[Size]:
    """Return all bucket sizes of a resolution R, sorted.

    ``{(w, h): w, h multiples of step, 0.9 R^2 <= w h <= R^2, 1/4 <= w / h <= 4}``, and the square.
    """
    area, step = rules.resolution**2, rules.step
    square = rules.resolution // step * step
    sizes = {(square, square)}
    for width in range(step, int(rules.resolution * MAX_ASPECT**0.5) + 1, step):
        lowest = math.ceil(max(MIN_AREA * area / width, width / MAX_ASPECT) / step) * step
        highest = int(min(area / width, width * MAX_ASPECT))
        sizes.update((width, height) for height in range(lowest, highest + 1, step))
    return sorted(sizes)


def choose_bucket(size: Size, rules: BucketRules, sizes: Sequence[Size]) -> Size:
    """Return the bucket nearest in log aspect ratio, the larger one of two equally near.

    Without upscaling, a picture that does not cover its bucket gets one of its own: its size
    rounded down.
    """
    aspect = math.log(size[0] / size[1])
    best = min(sizes, key=lambda b: (abs(math.log(b[0] / b[1]) - aspect), -b[0] * b[1], b))
    if rules.upscale or (best[0] <= size[0] and best[1] <= size[1]):
        return best
    return _own_bucket(size, rules)


def place(size: Size, bucket: Size, *, position: float = 0.5, flipped: bool = False) -> Placement:
    """Resize to cover the bucket and crop; ``position`` 0 is left or top, 1 right or bottom."""
    scale = max(bucket[0] / size[0], bucket[1] / size[1])
    resized = (max(bucket[0], round(size[0] * scale)), max(bucket[1], round(size[1] * scale)))
    crop = (int((resized[0] - bucket[0]) * position), int((resized[1] - bucket[1]) * position))
    return Placement(original=size, resized=resized, crop=crop, bucket=bucket, flipped=flipped)


@dataclass(frozen=True)
class BucketPlan:
    """Where every picture goes; made and shown before anything is encoded."""

    names: tuple[str, ...]
    views: tuple[tuple[Placement, ...], ...]
    """For each picture the placements that take turns: resolutions x crops x mirrored."""

    @property
    def buckets(self) -> Mapping[Size, int]:
        """Pictures in each bucket, by their views."""
        return Counter(bucket for views in self.views for bucket in {v.bucket for v in views})

    def report(self, batch_size: int = 1) -> str:
        """Return the bucket table and what is enlarged or cropped, for people."""
        lines = ["bucket      aspect  images"]
        for (width, height), count in sorted(self.buckets.items()):
            lines.append(f"{width:>5}x{height:<5} {width / height:>6.2f} {count:>7}")
        small = [f"{w}x{h}" for (w, h), count in self.buckets.items() if count < batch_size]
        if small:
            lines.append(
                f"{len(small)} buckets hold fewer than {batch_size} images ({listed(small)}): "
                "their batches fill up over several epochs"
            )
        return "\n".join(lines + self._warnings())

    def _warnings(self) -> list[str]:
        # The first view of a picture is its largest resolution, cropped in the middle.
        first = [(name, views[0]) for name, views in zip(self.names, self.views, strict=True)]
        enlarged = [f"{name} x{p.scale:.1f}" for name, p in first if p.scale > 1.005]
        cropped = [f"{name} {p.cropped:.0%}" for name, p in first if p.cropped > 0.2]
        mean = sum(p.cropped for _, p in first) / max(1, len(first))
        lines = [f"{mean:.1%} of the area is cropped away"]
        if enlarged:
            lines.append(
                f"{len(enlarged)} of {len(first)} images are enlarged and may train blur "
                f"({listed(enlarged)}): lower the resolution or turn upscaling off"
            )
        if cropped:
            lines.append(f"{len(cropped)} images lose over 20 % to cropping ({listed(cropped)})")
        return lines


def plan_buckets(
    names: Sequence[str], sizes: Sequence[Size], config: DataConfig, multiple: int
) -> BucketPlan:
    """Place every picture.

    Args:
        names: Names of the pictures, for the report.
        sizes: Their ``(width, height)``.
        config: Resolution, step, flip and crop settings.
        multiple: What the model's sides must be multiples of.

    Raises:
        ValueError: If a resolution is below what the model takes.
    """
    tables = []
    for resolution in sorted({config.resolution, *config.extra_resolutions}, reverse=True):
        rules = bucket_rules(
            resolution, bucket_step=config.bucket_step, multiple=multiple, upscale=config.upscale
        )
        tables.append((rules, bucket_sizes(rules)))
    views = []
    for size in sizes:
        chosen = dict.fromkeys(choose_bucket(size, rules, table) for rules, table in tables)
        placed = [p for bucket in chosen for p in _crops(size, bucket, config.random_crop)]
        if config.flip:
            placed += [replace(p, flipped=True) for p in placed]
        views.append(tuple(placed))
    return BucketPlan(tuple(names), tuple(views))


def _crops(size: Size, bucket: Size, several: bool) -> list[Placement]:
    positions = CROP_POSITIONS if several else CROP_POSITIONS[:1]
    return list(dict.fromkeys(place(size, bucket, position=position) for position in positions))


def _own_bucket(size: Size, rules: BucketRules) -> Size:
    sides = []
    for side in size:
        unit = rules.step if side >= rules.step else rules.multiple
        sides.append(max(rules.multiple, side // unit * unit))
    while math.prod(sides) > rules.resolution**2 or max(sides) > MAX_ASPECT * min(sides):
        sides[sides.index(max(sides))] -= rules.multiple
    return sides[0], sides[1]
