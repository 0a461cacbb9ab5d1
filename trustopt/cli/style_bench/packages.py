"""Emoji as npm packages hold them: the same signs, drawn by Google, Twitter and OpenMoji."""

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 64
"""Of the pictures, pixels."""

VENDORS = {"twitter": "twemoji", "google": "noto"}
"""Folder of a vendor's pictures in ``emoji-datasource-*`` -> what its emoji are called."""

VARIATION = "FE0F"
"""In a code: the sign before it is to be drawn in colour. Packages differ in saying so."""

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Drawing:
    """One emoji in one style.

    Attributes:
        code: Its code points, ``1F600`` or ``1F62E-200D-1F4A8``: equal in all packages.
        name: In lower case, as the package calls it.
        group: ``animals-nature`` and so on, as OpenMoji writes it.
        subgroup: ``face-smiling`` and so on.
        read: Returns its picture, uint8 ``(64, 64, 3)`` on white.
    """

    code: str
    name: str
    group: str
    subgroup: str
    read: Callable[[], Pixels]


@dataclass(frozen=True)
class Package:
    """All emoji of one style, without skin tones: ``twemoji``, ``noto`` or ``openmoji``."""

    style: str
    drawings: Sequence[Drawing]


def read_package(folder: Path, option: str) -> Package:
    """Read an unpacked npm package: ``emoji-datasource-twitter``, ``-google``, or ``openmoji``.

    Args:
        folder: Its folder ``package``.
        option: Of the command line, that named the folder.

    Raises:
        ValueError: If it is none of them, or resvg-py is missing, which OpenMoji needs.
    """
    if (folder / "data" / "openmoji.json").is_file():
        return Package("openmoji", openmoji(folder))
    if (folder / "emoji.json").is_file():
        for vendor, style in VENDORS.items():
            if (folder / "img" / vendor).is_dir():
                return Package(style, datasource(folder, vendor))
    raise ValueError(
        f"{option}: {folder} holds no emoji: run npm pack emoji-datasource-twitter (or "
        "emoji-datasource-google, or openmoji), unpack it, and give its folder package"
    )


def datasource(package: Path, vendor: str) -> list[Drawing]:
    """Return the pictures of ``emoji-datasource-<vendor>``."""
    folder = package / "img" / vendor / "64"
    return [
        Drawing(
            code=plain_code(row["unified"]),
            name=row["name"].lower(),
            group=row["category"].lower().replace(" & ", "-"),
            subgroup=row["subcategory"],
            read=lambda file=folder / row["image"]: on_white(Image.open(file)),
        )
        for row in rows_of(package / "emoji.json")
        if row[f"has_img_{vendor}"]
    ]


def openmoji(package: Path) -> list[Drawing]:
    """Return the drawings of ``openmoji``: thin black lines, the finest detail there is.

    Raises:
        ValueError: If resvg-py is missing.
    """
    try:
        import resvg_py
    except ImportError as error:
        raise ValueError("OpenMoji's drawings need a rasteriser: pip install resvg-py") from error

    def drawn(file: Path) -> Pixels:
        png = bytes(resvg_py.svg_to_bytes(svg_path=str(file), width=SIDE, height=SIDE))
        return on_white(Image.open(io.BytesIO(png)))

    folder = package / "color" / "svg"
    return [
        Drawing(
            code=plain_code(row["hexcode"]),
            name=row["annotation"].lower(),
            group=row["group"],
            subgroup=row["subgroups"],
            read=lambda file=folder / f"{row['hexcode']}.svg": drawn(file),
        )
        for row in rows_of(package / "data" / "openmoji.json")
        if not row["skintone"]
    ]


def rows_of(table: Path) -> list[dict[str, Any]]:
    """Return a package's list of emoji."""
    return json.loads(table.read_text("utf-8"))


def plain_code(code: str) -> str:
    """Return a code without variation selectors."""
    return "-".join(part for part in code.upper().split("-") if part != VARIATION)


def on_white(picture: Image.Image) -> Pixels:
    """Return ``(64, 64, 3)`` uint8."""
    with picture:
        drawn = picture.convert("RGBA")
    if drawn.size != (SIDE, SIDE):
        drawn = drawn.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    page = Image.new("RGBA", drawn.size, "white")
    page.alpha_composite(drawn)
    return np.array(page.convert("RGB"))
