"""Lets peft, transformers and diffusers be imported beside a torchvision built for another torch.

A CPU-only torch with a CUDA-built torchvision lacks torchvision's compiled operators, and its
import then fails. The tests use none of those operators, so declaring the two that are looked
up at import is enough. Where torchvision works, nothing is declared.
"""

import os

import torch

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def _declare_missing_vision_operators() -> torch.library.Library | None:
    try:
        import torchvision  # noqa: F401
    except ImportError:
        return None
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(name + _SCHEMA)
        return library
    return None


# A library's definitions live as long as the object does.
_LIBRARY = _declare_missing_vision_operators()


def pytest_configure() -> None:
    """Let property tests try the same examples each time in CI, new ones on people's machines."""
    try:
        from hypothesis import settings
    except ImportError:  # ComfyUI's environment may not have it
        return
    settings.register_profile("ci", derandomize=True)
    if os.environ.get("CI"):
        settings.load_profile("ci")
