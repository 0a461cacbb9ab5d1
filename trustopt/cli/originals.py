"""The optimizers as their authors published them, from files the user has, to compare with."""

import importlib.util
from pathlib import Path
from typing import Any

from torch.optim import Optimizer

NAMES = ("AutoTrustGO", "EmoNavi", "EmoFact", "EmoLynx", "EmoClan", "EmoZeal", "EmoNeco")


def load_originals(folder: Path) -> dict[str, type[Optimizer]]:
    """Import the published classes from a folder of their files.

    Args:
        folder: Holds ``AutoTrustGO.py``, ``emonavi.py``, ... in any letter case; some may lack.

    Raises:
        ValueError: If it holds none of them.
    """
    files = {path.stem.lower(): path for path in folder.glob("*.py")}
    found = {name: files[name.lower()] for name in NAMES if name.lower() in files}
    if not found:
        raise ValueError(
            f"{folder} holds none of the published optimizers: copy AutoTrustGO.py from "
            "szxex/AutoTrustGo and AMP-compatible/emo*.py from muooon/EmoNavi there"
        )
    return {name: _class_in(path, name) for name, path in found.items()}


def _class_in(path: Path, name: str) -> type[Optimizer]:
    spec = importlib.util.spec_from_file_location(f"published_{name}", path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} is no Python file")
    module: Any = importlib.util.module_from_spec(spec)
    module.eps = 1e-8  # EmoNeco reads a global of this name that its file lacks
    spec.loader.exec_module(module)
    return getattr(module, name)
