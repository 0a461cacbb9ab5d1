"""Nested plain values and tensors <-> one safetensors file; nothing is pickled.

The tree is JSON in the header's metadata; tensors stand in it as references to the file's own.
"""

import errno
import json
import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from torch import Tensor

KEY = "tree"


def save_tree(path: Path, tree: Any) -> None:
    """Write a tree of dicts, lists, tuples, tensors, numbers, strings, bools and None.

    Dict keys may be strings or numbers. The file is flushed to the disk before this returns.

    Raises:
        TypeError: If the tree holds anything else.
        OSError: If the file cannot be written, the disk being full for example.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    tensors: dict[str, Tensor] = {}
    described = json.dumps(_describe(tree, "", tensors))
    try:
        save_file(tensors, str(path), metadata={KEY: described})
    except SafetensorError as error:
        raise _os_error(error, path) from error
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def load_tree(path: Path, only: Collection[str] | None = None) -> Any:
    """Read what ``save_tree`` wrote; tensors come back on the CPU with their dtypes.

    Args:
        path: The file.
        only: Keys to read of a tree that is a dict, which must hold no tensors; None reads all.

    Raises:
        ValueError: If the file is damaged.
        OSError: If it cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            described = json.loads(file.metadata()[KEY])
            if only is not None:
                described = {"dict": [[k, v] for k, v in described["dict"] if k in only]}
                return _restore(described, {})
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            return _restore(described, tensors)
    except (SafetensorError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def _os_error(error: Exception, path: Path) -> OSError:
    """Return the operating system's error behind one of the safetensors library's own."""
    words = str(error).rpartition(": ")[2]  # No space left on device (os error 28)
    number = re.search(r"os error (\d+)", words)
    return OSError(int(number[1]) if number else errno.EIO, words, str(path))


def _describe(node: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(node, Tensor):
        name = path or "root"
        tensors[name] = node.detach().cpu().contiguous().clone()
        return {"tensor": name}
    if isinstance(node, dict):
        return {"dict": [[k, _describe(v, f"{path}/{k}", tensors)] for k, v in node.items()]}
    if isinstance(node, list | tuple):
        kind = "tuple" if isinstance(node, tuple) else "list"
        return {kind: [_describe(v, f"{path}/{i}", tensors) for i, v in enumerate(node)]}
    if node is None or isinstance(node, bool | int | float | str):
        return node
    raise TypeError(f"{path or 'the tree'} is a {type(node).__name__}, which a state cannot hold")


def _restore(node: Any, tensors: dict[str, Tensor]) -> Any:
    if not isinstance(node, dict):
        return node
    ((kind, value),) = node.items()
    if kind == "tensor":
        return tensors[value]
    if kind == "dict":
        return {k: _restore(v, tensors) for k, v in value}
    items = [_restore(v, tensors) for v in value]
    return tuple(items) if kind == "tuple" else items
