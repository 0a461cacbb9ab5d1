"""Picture files: which can be used, and their pixels as the bucket plan cuts them."""

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .buckets import Placement, Size
from .samples import Pixels, Sample

MAX_PIXELS = 89_478_485
"""Largest picture opened: where Pillow starts to warn of decompression bombs (0.25 GiB of RGB)."""

EXTENSIONS = (".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif")
"""Of picture files, best first: of two files with one name the earlier is kept."""

FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "BMP", "GIF", "TIFF", "AVIF")
"""The decoders a file may choose by its content. Not EPS: Pillow runs a program for it."""

ORIENTATION = 0x0112  # EXIF tag
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> what turns the picture upright; 5 to 8 swap width and height."""

DECODING_ERRORS = (
    OSError,
    SyntaxError,  # Pillow's own for a broken PNG
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
"""What Pillow's decoders raise on damaged files; they share no base class."""


class UnusablePictureError(ValueError):
    """A file that cannot be trained on; the message is the reason, made to follow its name."""


@dataclass(frozen=True)
class PictureFacts:
    """What a scan learns about a usable picture file."""

    width: int
    """Pixels, EXIF orientation applied."""
    height: int
    has_alpha: bool
    """Some pixel is not opaque."""
    remark: str
    """What is converted on reading; empty for plain RGB."""


def inspect_picture(path: Path) -> PictureFacts:
    """Check that a picture file can be used, mostly from its header.

    PNG carries checksums; JPEG and WebP their end. Where those leave a doubt the file is decoded.

    Raises:
        UnusablePictureError: If it is empty, damaged, too large or of unsupported pixels.
    """
    with _reasons_named():
        if path.stat().st_size == 0:
            raise UnusablePictureError("the file is empty (0 bytes)")
        with open_image(path) as image:
            facts = _facts(image)
        _check_decodable(path)
    return facts


def open_image(path: Path) -> Image.Image:
    """Open a picture file without decoding it; use as a context.

    Raises:
        UnusablePictureError: If it is too large.
        OSError: And other ``DECODING_ERRORS``, if it is no picture or damaged at its start.
    """
    Image.init()  # registers all formats; returns at once after the first time
    image = Image.open(path, formats=[name for name in FORMATS if name in Image.OPEN])
    width, height = image.size
    if width * height > MAX_PIXELS:
        image.close()
        raise UnusablePictureError(
            f"too large: {width}x{height} pixels; shrink it below {MAX_PIXELS // 10**6} megapixels"
        )
    return image


def thumbnail(sample: Sample, side: int) -> Image.Image:
    """Return a sample as RGB at most ``side`` pixels wide and high, whole.

    Raises:
        UnusablePictureError: If the file cannot be decoded.
    """
    scale = side / max(sample.width, sample.height)
    size = (max(1, round(sample.width * scale)), max(1, round(sample.height * scale)))
    with _reasons_named():
        image = _open_rgb(sample, at_least=size)
        return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)


def file_thumbnail(path: Path, side: int) -> Image.Image:
    """Return a picture file as RGB at most ``side`` pixels wide and high, without scanning it.

    Raises:
        UnusablePictureError: If the file cannot be decoded.
    """
    with _reasons_named():
        image = to_rgb(_open(path, at_least=(side, side)))
        image.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=2.0)
        return image


def cut_picture(sample: Sample, placement: Placement) -> Pixels:
    """Return a sample's pixels as its placement cuts them, ``(H, W, 3)`` uint8 RGB.

    Raises:
        UnusablePictureError: If the file cannot be decoded.
    """
    with _reasons_named():
        image = _open_rgb(sample, at_least=placement.resized)
        # Lanczos keeps enlarged edges; for shrinking, Hamming is as sharp as bicubic without
        # halos, at half the time of Lanczos.
        enlarges = placement.resized[0] > image.width
        resampling = Image.Resampling.LANCZOS if enlarges else Image.Resampling.HAMMING
        return np.asarray(_cut(image, placement, resampling))


def cut_mask(sample: Sample, placement: Placement) -> NDArray[np.float32] | None:
    """Return a sample's mask cut like its picture, ``(H, W)`` float32 in [0, 1], or None.

    Raises:
        UnusablePictureError: If the mask cannot be decoded.
    """
    if sample.mask is None:
        return None
    with _reasons_named("its mask: "):
        if isinstance(sample.mask, str):
            grey = to_rgba(_open(sample.source)).getchannel("A")
        else:
            grey = to_rgb(_open(sample.mask)).convert("L")
        # A box filter keeps a mask within [0, 1]; Lanczos would ring at its edges.
        cut = _cut(grey, placement, Image.Resampling.BOX)
        return np.asarray(cut, dtype=np.float32) / 255.0


def to_rgb(image: Image.Image) -> Image.Image:
    """Return a picture of any mode as RGB; colours under transparent pixels stay as stored.

    Raises:
        UnusablePictureError: If its pixels are floating point or more than 16 bits wide.
    """
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I"):
        return _from_16_bit(image).convert("RGB")
    if image.mode == "F":
        raise UnusablePictureError("floating-point pixels: save it as 8-bit PNG or JPEG")
    return to_rgba(image).convert("RGB") if _may_be_transparent(image) else image.convert("RGB")


def to_rgba(image: Image.Image) -> Image.Image:
    """Return a picture with an alpha channel, opaque where it had none."""
    return image if image.mode == "RGBA" else image.convert("RGBA")


@contextmanager
def _reasons_named(prefix: str = "") -> Iterator[None]:
    """Turn whatever Pillow raises on a bad file into ``UnusablePictureError``."""
    try:
        yield
    except UnusablePictureError as error:
        raise UnusablePictureError(f"{prefix}{error}") from error
    except Image.DecompressionBombError as error:
        raise UnusablePictureError(f"{prefix}too large to open safely: {error}") from error
    except Image.UnidentifiedImageError as error:
        raise UnusablePictureError(f"{prefix}not a picture, or damaged at its start") from error
    except DECODING_ERRORS as error:
        raise UnusablePictureError(f"{prefix}damaged or cut off ({error})") from error


def _open(source: Path | Pixels, at_least: Size | None = None) -> Image.Image:
    """Decode a picture upright; a JPEG only as finely as ``at_least`` asks for."""
    if not isinstance(source, Path):
        return Image.fromarray(source)
    with open_image(source) as image:
        orientation = _orientation(image)
        if at_least is not None and image.format in ("JPEG", "MPO"):
            image.draft(image.mode, at_least[::-1] if orientation >= 5 else at_least)
        image.load()
        return image.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else image


def _open_rgb(sample: Sample, at_least: Size) -> Image.Image:
    image = _open(sample.source, at_least)
    # The plan was made for the scanned size; a JPEG may be decoded at 1/2, 1/4 or 1/8 of it.
    if all(image.size != _divided(sample, divisor) for divisor in (1, 2, 4, 8)):
        raise UnusablePictureError("it has changed since the folder was read: read it again")
    return to_rgb(image)


def _divided(sample: Sample, divisor: int) -> Size:
    return -(-sample.width // divisor), -(-sample.height // divisor)


def _cut(image: Image.Image, placement: Placement, resampling: Image.Resampling) -> Image.Image:
    left, top = placement.crop
    width, height = placement.bucket
    if image.size != placement.resized:
        image = image.resize(placement.resized, resampling)
    image = image.crop((left, top, left + width, top + height))
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if placement.flipped else image


def _facts(image: Image.Image) -> PictureFacts:
    width, height = image.size
    if _orientation(image) >= 5:
        width, height = height, width
    remarks = []
    if getattr(image, "is_animated", False) and image.format != "MPO":  # a camera's extra previews
        remarks.append("animated: its first frame is used")
    if image.mode.startswith(("F", "I")):
        to_rgb(image)  # raises the reason why not
        remarks.append("16-bit greyscale converted to 8-bit RGB")
    elif image.mode in ("CMYK", "LAB"):
        remarks.append(f"{image.mode} converted to RGB: compare its colours on the contact sheet")
    has_alpha = _may_be_transparent(image) and to_rgba(image).getchannel("A").getextrema()[0] < 255
    if has_alpha:
        remarks.append("its alpha channel is used as a mask")
    return PictureFacts(width, height, has_alpha, ", ".join(remarks))


def _check_decodable(path: Path) -> None:
    with open_image(path) as image:
        if image.format == "PNG":
            image.verify()
        elif not _ends_properly(path, image.format):
            image.load()


def _ends_properly(path: Path, image_format: str | None) -> bool:
    with path.open("rb") as file:
        size = file.seek(0, 2)
        if image_format in ("JPEG", "MPO"):
            file.seek(max(0, size - 4096))
            return b"\xff\xd9" in file.read()
        if image_format == "WEBP":
            file.seek(4)
            return int.from_bytes(file.read(4), "little") + 8 <= size
    return False


def _orientation(image: Image.Image) -> int:
    if image.format == "PNG" and "exif" not in image.info:
        return 1  # asking would decode the whole file, in case EXIF stands at its end
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except DECODING_ERRORS:  # a damaged EXIF block does not damage the pixels
        return 1
    return value if isinstance(value, int) else 1


def _may_be_transparent(image: Image.Image) -> bool:
    if image.mode.startswith(("F", "I")):  # Pillow has no transparency for wide pixels
        return False
    return image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info


def _from_16_bit(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 0xFFFF:
        raise UnusablePictureError("pixels wider than 16 bits: save it as 8-bit PNG or JPEG")
    return Image.fromarray((values // 257).astype(np.uint8))
