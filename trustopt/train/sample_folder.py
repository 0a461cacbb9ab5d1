"""A run's sample pictures on disk: one file each, an index of them, and one grid of all.

``samples/step_000250_01.png`` (step, prompt), ``samples/index.json``, ``samples/grid.png``. Each
is written whole or not at all.
"""

import io
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ..signals.durable import replace_file
from ..signals.picture_grid import GrowingGrid, thinned
from ..signals.theme import ThemeName

log = logging.getLogger("trustopt")

INDEX, GRID = "index.json", "grid.png"


@dataclass(frozen=True, kw_only=True)
class SamplePicture:
    """One picture of the index."""

    file: str
    """Name in the folder."""
    step: int
    number: int
    """Place of its prompt among the others, from 1."""
    prompt: str


class SampleFolder:
    """The sample pictures of one run.

    Args:
        path: The folder; made with the first picture.
        step: Where the run stands: pictures of later steps, which a resumed run will make again,
            are taken out of the index.
        theme: Colours of the grid.
    """

    def __init__(self, path: Path, step: int, theme: ThemeName = "light") -> None:
        self.path = path
        self.theme: ThemeName = theme
        self.pictures = [picture for picture in read_index(path) if picture.step <= step]
        self._grid: GrowingGrid | None = None

    def add(
        self,
        step: int,
        prompts: Sequence[str],
        pictures: Sequence[np.ndarray],
        notes: Sequence[Mapping[str, str]] = (),
    ) -> list[SamplePicture]:
        """Write the pictures of one step, the index and the grid.

        Args:
            step: At least the last one's.
            prompts: One a picture, all different.
            pictures: uint8 ``(H, W, 3)``.
            notes: Texts for each file's header; none for empty.

        Raises:
            OSError: If a file cannot be written; those before it are whole.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        added = []
        for index, (prompt, pixels) in enumerate(zip(prompts, pictures, strict=True)):
            file = f"step_{step:06d}_{index + 1:02d}.png"
            header = notes[index] if notes else {}
            replace_file(self.path / file, png_bytes(Image.fromarray(pixels), header))
            added.append(SamplePicture(file=file, step=step, number=index + 1, prompt=prompt))
        self.pictures = [picture for picture in self.pictures if picture.step != step] + added
        listed = {"pictures": [asdict(picture) for picture in self.pictures]}
        text = json.dumps(listed, indent=1, ensure_ascii=False) + "\n"
        replace_file(self.path / INDEX, text.encode())
        grid = self._grown_grid(before=step)
        grid.add(step, dict(zip(prompts, pictures, strict=True)))
        replace_file(self.path / GRID, png_bytes(grid.draw(prompts, self.theme)))
        return added

    def _grown_grid(self, before: int) -> GrowingGrid:
        """Return the grid so far; that of a resumed run is read from its pictures once."""
        if self._grid is None:
            grid = self._grid = GrowingGrid()
            steps = sorted({picture.step for picture in self.pictures if picture.step < before})
            for step in thinned(steps):
                found = [picture for picture in self.pictures if picture.step == step]
                read = {p.prompt: read_picture(self.path / p.file) for p in found}
                grid.add(
                    step, {text: pixels for text, pixels in read.items() if pixels is not None}
                )
        return self._grid


def read_index(path: Path) -> list[SamplePicture]:
    """Return the pictures that a samples folder lists, oldest first; none for no folder."""
    try:
        listed = json.loads((path / INDEX).read_text(encoding="utf-8"))["pictures"]
        return [SamplePicture(**entry) for entry in listed]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("%s cannot be read (%s): the sample pictures so far are not shown", path, error)
        return []


def read_picture(path: Path) -> np.ndarray | None:
    """Return a picture as uint8 ``(H, W, 3)``; None if its file is gone or broken."""
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError):  # Pillow's word for a broken PNG
        return None


def png_bytes(image: Image.Image, texts: Mapping[str, str] | None = None) -> bytes:
    """Return a picture as a PNG file with texts in its header."""
    header = PngInfo()
    for key, text in (texts or {}).items():
        header.add_text(key, text)
    file = io.BytesIO()
    image.save(file, "PNG", pnginfo=header, compress_level=4)
    return file.getvalue()
