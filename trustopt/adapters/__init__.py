"""Adapters and their files.

Reading order: ``targets`` (which layers), ``build`` (PEFT layers without the model),
``adapter_set`` (what the trainer holds), ``patch`` (one layer's change as files hold it),
``formats`` (its spelling), ``files`` and ``read`` (the .safetensors file), ``check`` (is it good).
"""

from .adapter_set import AdapterSet
from .build import build_adapters
from .files import save_lora
from .read import LoraFile, check_fits, read_lora
from .settings import LayerSettings
from .targets import select_layers

__all__ = [
    "AdapterSet",
    "LayerSettings",
    "LoraFile",
    "build_adapters",
    "check_fits",
    "read_lora",
    "save_lora",
    "select_layers",
]
