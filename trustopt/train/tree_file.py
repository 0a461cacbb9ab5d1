"""Nested plain values and tensors <-> one safetensors file; nothing is pickled.

The tree is JSON in the header's metadata; tensors stand in it as references to the file's own.
"""

import json
import os
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
    from safetensors.torch import save_file

    tensors: dict[str, Tensor] = {}
    described = json.dumps(_describe(tree, "", tensors))
    save_file(tensors, str(path), metadata={KEY: described})
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def load_tree(path: Path) -> Any:
    """Read what ``save_tree`` wrote; tensors come back on the CPU with their dtypes."""
    from safetensors import safe_open

    with safe_open(str(path), framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        return _restore(json.loads(file.metadata()[KEY]), tensors)


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
