"""Named groups of tensors, in memory or as memory-mapped safetensors files."""

import contextlib
import json
import logging
import os
import uuid
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

logger = logging.getLogger("trustopt")


class TensorStore:
    """Tensors by key, each key one file, so that memory does not grow with the data set.

    A file is written under another name and renamed, so a reader never sees half of one; a damaged
    file counts as absent. When the disk refuses a file its tensors stay in memory.

    Args:
        folder: Where the files are; None keeps everything in memory.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._memory: dict[str, dict[str, Tensor]] = {}

    def shapes(self, key: str) -> dict[str, tuple[int, ...]] | None:
        """Return the shapes of a group from its file's header, or None if there is none."""
        if key in self._memory:
            return {name: tuple(tensor.shape) for name, tensor in self._memory[key].items()}
        path = self._path(key)
        if path is None or not path.is_file():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                names = file.keys()
                return {name: tuple(file.get_slice(name).get_shape()) for name in names}
        except (SafetensorError, OSError) as error:
            logger.warning("the cache file %s is damaged and made anew: %s", path.name, error)
            return None

    def load(self, key: str) -> dict[str, Tensor]:
        """Return a group's tensors; those of a file are views of its mapping.

        Raises:
            ValueError: If the group vanished from the disk since it was checked or written.
        """
        if key in self._memory:
            return self._memory[key]
        path = self._path(key)
        try:
            with safe_open(str(path), framework="pt") as file:
                names = file.keys()
                return {name: file.get_tensor(name) for name in names}
        except (SafetensorError, OSError) as error:
            raise ValueError(
                f"the cache file {path} cannot be read ({error}): start the run again to remake "
                "it, and leave the cache folder alone while training"
            ) from error

    def save(self, key: str, tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> None:
        """Keep a group; ``about`` is written into the file for people who look inside."""
        # Clones, because a view would keep its whole base alive, and files cannot share storage.
        group = {
            name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()
        }
        path = self._path(key)
        if path is None:
            self._memory[key] = group
            return
        part = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            save_file(group, part, metadata={"trustopt": json.dumps(dict(about))})
            os.replace(part, path)
        except (OSError, SafetensorError) as error:
            logger.warning("the cache %s cannot be written, kept in memory: %s", path, error)
            self._memory[key] = group
            with contextlib.suppress(OSError):
                part.unlink()

    def _path(self, key: str) -> Path | None:
        return None if self._folder is None else self._folder / f"{key}.safetensors"
