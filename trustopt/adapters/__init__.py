"""Adapters and their files.

Reading order: ``targets`` (which layers), ``build`` (PEFT layers without the model),
``adapter_set`` (what the trainer holds), ``patch`` (one layer's change as files hold it),
``formats`` (its spelling), ``files`` and ``read`` (the .safetensors file), ``metadata`` (its
header), ``check`` (is it good), ``resize`` and ``inspection`` (what else one does with files).
"""

from .adapter_set import AdapterSet
from .blocks import block_norms
from .build import build_adapters
from .check import SaveReport, self_check
from .continuation import continue_adapters
from .files import remove_leftovers, save_lora
from .inspection import describe_lora, inspect_lora
from .metadata import build_metadata
from .patch import LayerPatch
from .read import LoraFile, check_fits, read_lora, take_apart
from .resize import resize
from .settings import LayerSettings
from .targets import is_text_encoder, select_layers
from .training_record import TrainingRecord

__all__ = [
    "AdapterSet",
    "LayerPatch",
    "LayerSettings",
    "LoraFile",
    "SaveReport",
    "TrainingRecord",
    "block_norms",
    "build_adapters",
    "build_metadata",
    "check_fits",
    "continue_adapters",
    "describe_lora",
    "inspect_lora",
    "is_text_encoder",
    "read_lora",
    "remove_leftovers",
    "resize",
    "save_lora",
    "select_layers",
    "self_check",
    "take_apart",
]
