"""One picture of all pictures: what is trained on, under which caption, cut how."""

import math
from itertools import zip_longest

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .buckets import BucketPlan, Placement, place
from .images import UnusablePictureError, cut_mask, thumbnail
from .samples import ImageSet, Pixels, Sample

MOST_TILES = 64
"""A sheet stays a glance; the rest is counted below it."""

BACKGROUND = (24, 24, 27)
TEXT, QUIET_TEXT = (235, 235, 240), (150, 150, 160)
UNTRAINED = (200, 40, 60)
"""Tint of what a mask leaves out."""

MARGIN = 10
NUM_LINES = 4  # name, two of caption, size


def contact_sheet(image_set: ImageSet, plan: BucketPlan | None = None, size: int = 192) -> Pixels:
    """Draw the pictures of a set as a grid of thumbnails with name, caption and size.

    With a plan, what is cropped away is dimmed and the bucket is named; what a mask leaves out is
    tinted red.

    Args:
        image_set: The pictures; the first 64 are drawn.
        plan: Their placements, made from the same set.
        size: Side of a thumbnail in pixels, at least 32.

    Returns:
        ``(H, W, 3)`` uint8 RGB.

    Raises:
        ValueError: If the set is empty, or ``size`` is below 32.
    """
    if size < 32:
        raise ValueError(f"size must be at least 32 pixels, got {size}")
    if not image_set.samples:
        raise ValueError(f"{image_set.name} holds no image to show: add images to it")
    font = ImageFont.load_default(max(10, size // 14))
    line = math.ceil(sum(font.getmetrics())) if isinstance(font, ImageFont.FreeTypeFont) else 12
    samples = image_set.samples[:MOST_TILES]
    columns = min(8, math.ceil(math.sqrt(len(samples))))
    rows = math.ceil(len(samples) / columns)
    step_x, step_y = size + MARGIN, size + NUM_LINES * line + MARGIN
    sheet = Image.new("RGB", (columns * step_x + MARGIN, rows * step_y + line + MARGIN), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    views = plan.views if plan else ()
    for index, (sample, placed) in enumerate(zip_longest(samples, views[: len(samples)])):
        x, y = MARGIN + index % columns * step_x, MARGIN + index // columns * step_y
        placement = placed[0] if placed else None
        tile = _tile(sample, placement, size)
        sheet.paste(tile, (x + (size - tile.width) // 2, y + (size - tile.height) // 2))
        for row, (text, colour) in enumerate(_texts(sample, placement, font, size)):
            draw.text((x, y + size + row * line), text, fill=colour, font=font)
    summary = _shorten(_summary(image_set), font, sheet.width - 2 * MARGIN)
    draw.text((MARGIN, sheet.height - line - 4), summary, fill=QUIET_TEXT, font=font)
    return np.asarray(sheet)


def _tile(sample: Sample, placement: Placement | None, size: int) -> Image.Image:
    try:
        image = thumbnail(sample, size)
        pixels = np.asarray(image, dtype=np.float32)
        whole = place((sample.width, sample.height), image.size)
        mask = cut_mask(sample, whole)
    except UnusablePictureError:
        return Image.new("RGB", (size, size), UNTRAINED)
    if mask is not None:
        tint = 0.6 * (1.0 - mask[..., None])
        pixels = pixels * (1.0 - tint) + np.array(UNTRAINED, dtype=np.float32) * tint
    if placement is not None:
        pixels = pixels * _kept(placement, image.size)[..., None]
    return Image.fromarray(pixels.astype(np.uint8))


def _kept(placement: Placement, size: tuple[int, int]) -> np.ndarray:
    """Return ``(H, W)``: 1 inside the crop and dim outside."""
    kept = np.full((size[1], size[0]), 0.25, dtype=np.float32)
    scale_x, scale_y = size[0] / placement.resized[0], size[1] / placement.resized[1]
    left, top = round(placement.crop[0] * scale_x), round(placement.crop[1] * scale_y)
    right = round((placement.crop[0] + placement.bucket[0]) * scale_x)
    bottom = round((placement.crop[1] + placement.bucket[1]) * scale_y)
    kept[top:bottom, left:right] = 1.0
    return kept


def _texts(
    sample: Sample,
    placement: Placement | None,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    width: int,
) -> list[tuple[str, tuple[int, int, int]]]:
    size = f"{sample.width}x{sample.height}"
    if placement is not None:
        size += f" > {placement.bucket[0]}x{placement.bucket[1]}"
    if sample.repeats > 1:
        size += f"  x{sample.repeats}"
    if sample.is_regularisation:
        size += "  regularisation"
    first, rest = _break(sample.caption or "(no caption)", font, width)
    return [
        (_shorten(sample.name, font, width), TEXT),
        (first, QUIET_TEXT),
        (_shorten(rest, font, width), QUIET_TEXT),
        (_shorten(size, font, width), TEXT),
    ]


def _break(
    text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int
) -> tuple[str, str]:
    """Split a text after the words that fit on one line."""
    words = text[:200].split(" ")
    count = len(words)
    while count > 1 and font.getlength(" ".join(words[:count])) > width:
        count -= 1
    return _shorten(" ".join(words[:count]), font, width), " ".join(words[count:])


def _shorten(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."


def _summary(image_set: ImageSet) -> str:
    hidden = len(image_set.samples) - MOST_TILES
    parts = [f"{image_set.name}: {len(image_set.samples)} images"]
    if hidden > 0:
        parts.append(f"{hidden} not shown")
    if image_set.skipped:
        parts.append(f"{len(image_set.skipped)} files skipped")
    return ", ".join(parts)
