"""One picture of all pictures: what is trained on, under which caption, cut how."""

import math
from itertools import zip_longest

import numpy as np
from PIL import Image

from .buckets import BucketPlan, Placement, place
from .captions import with_trigger
from .images import UnusablePictureError, cut_mask, thumbnail
from .lettering import Colour, draw_line, readable, shorten, wrap
from .samples import ImageSet, Pixels, Sample

MOST_TILES = 64
"""Pictures a page: a sheet stays a glance."""

MOST_COLUMNS = 8
WIDER = 1.4
"""Columns over rows: a sheet is wider than high, as screens are."""

SIZES = ((6, 320), (24, 256), (MOST_TILES, 192))
"""Up to how many pictures a thumbnail has which side, pixels."""

CAPTION_LINES = 4
LONGEST = 400
"""Characters of a caption that are looked at; four lines hold fewer."""

BACKGROUND: Colour = (24, 24, 27)
TEXT: Colour = (235, 235, 240)
QUIET_TEXT: Colour = (160, 160, 170)
WARNING: Colour = (245, 180, 80)
UNTRAINED: Colour = (200, 40, 60)
"""Tint of what a mask leaves out."""

MARGIN = 12
GAP = 4
"""Between a picture and its text, pixels."""

Line = tuple[str, Colour]


def contact_sheet(
    image_set: ImageSet,
    plan: BucketPlan | None = None,
    size: int | None = None,
    page: int = 1,
) -> Pixels:
    """Draw the pictures of a set as a grid of thumbnails with name, size and caption.

    With a plan, what is cropped away is dimmed and the bucket is named; what a mask leaves out is
    tinted red. The captions are those trained on, the trigger word added.

    Args:
        image_set: The pictures, 64 a page.
        plan: Their placements, made from the same set.
        size: Side of a thumbnail in pixels, at least 32; None: the larger the fewer there are.
        page: Which 64 are drawn, from 1.

    Returns:
        ``(H, W, 3)`` uint8 RGB.

    Raises:
        ValueError: If the set is empty, ``size`` below 32, or there is no such page.
    """
    if size is not None and size < 32:
        raise ValueError(f"size must be at least 32 pixels, got {size}")
    if not image_set.samples:
        raise ValueError(f"{image_set.name} holds no image to show: add images to it")
    pages = math.ceil(len(image_set.samples) / MOST_TILES)
    if not 1 <= page <= pages:
        raise ValueError(f"page must be from 1 to {pages} for {image_set.name}, got {page}")
    shown = slice((page - 1) * MOST_TILES, page * MOST_TILES)
    samples = image_set.samples[shown]
    views = plan.views[shown] if plan else ()
    side = size or next(side for most, side in SIZES if len(samples) <= most)
    font = max(10, min(15, side // 14))
    tiles = [
        (_tile(sample, placed, side), _facts(sample, placed), _caption(sample, image_set))
        for sample, placed in zip_longest(samples, views, fillvalue=())
    ]
    return _grid(tiles, _summary(image_set, plan, page, pages), side, font)


def _grid(
    tiles: list[tuple[Image.Image, list[Line], Line]], summary: str, side: int, font: int
) -> Pixels:
    """Put pictures with their texts into rows, and a line below all."""
    texts = [
        [(shorten(readable(text), font, side), colour) for text, colour in facts]
        + [(line, caption[1]) for line in wrap(readable(caption[0]), font, side, CAPTION_LINES)]
        for _, facts, caption in tiles
    ]
    columns = min(MOST_COLUMNS, math.ceil(math.sqrt(WIDER * len(tiles))))
    columns = math.ceil(len(tiles) / math.ceil(len(tiles) / columns))  # as even as the rows allow
    line = round(1.35 * font)
    heights = [  # of rows
        side + GAP + max(map(len, texts[start : start + columns])) * line + 2 * MARGIN
        for start in range(0, len(tiles), columns)
    ]
    size = (columns * (side + MARGIN) + MARGIN, sum(heights) + line + MARGIN)
    sheet = Image.new("RGB", size, BACKGROUND)
    for index, ((picture, _, _), lines) in enumerate(zip(tiles, texts, strict=True)):
        row, column = divmod(index, columns)
        x, foot = MARGIN + column * (side + MARGIN), MARGIN + sum(heights[:row]) + side
        sheet.paste(picture, (x + (side - picture.width) // 2, foot - picture.height))
        for number, (text, colour) in enumerate(lines, 1):
            draw_line(sheet, x, foot + GAP + number * line - line // 4, text, font, colour)
    summary = shorten(readable(summary), font, sheet.width - 2 * MARGIN)
    draw_line(sheet, MARGIN, sheet.height - MARGIN, summary, font, QUIET_TEXT)
    return np.asarray(sheet)


def _tile(sample: Sample, views: tuple[Placement, ...], size: int) -> Image.Image:
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
    if views:
        pixels = pixels * _kept(views[0], image.size)[..., None]
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


def _facts(sample: Sample, views: tuple[Placement, ...]) -> list[Line]:
    """Return the lines above a caption: name; size, bucket and what is special."""
    size = f"{sample.width}x{sample.height}"
    buckets = dict.fromkeys(view.bucket for view in views)
    if buckets:
        size += " > " + ", ".join(f"{width}x{height}" for width, height in buckets)
    if sample.repeats > 1:
        size += f", {sample.repeats} repeats"
    if sample.is_regularisation:
        size += ", regularisation"
    lines = [(sample.name, TEXT), (size, TEXT)]
    if views and views[0].scale > 1.005:
        lines.append((f"enlarged x{views[0].scale:.1f}", WARNING))
    return lines


def _caption(sample: Sample, image_set: ImageSet) -> Line:
    trigger_word = "" if sample.is_regularisation else image_set.trigger_word
    trained = with_trigger(sample.caption[:LONGEST], trigger_word)
    if sample.caption:
        return trained, QUIET_TEXT
    return f"no caption: {trained} alone" if trained else "no caption", WARNING


def _summary(image_set: ImageSet, plan: BucketPlan | None, page: int, pages: int) -> str:
    parts = [f"{image_set.name}: {len(image_set.samples)} images"]
    if plan:
        parts.append(f"{len(plan.buckets)} buckets")
    missing = sum(not s.caption and not s.is_regularisation for s in image_set.samples)
    if missing:
        parts.append(f"{missing} without a caption")
    if image_set.skipped:
        parts.append(f"{len(image_set.skipped)} files skipped")
    if pages > 1:
        parts.append(f"page {page} of {pages}")
    return ", ".join(parts)
