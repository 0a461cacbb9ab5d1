"""Optimizers: AutoTrustGO, the Emo family, and known ones to compare with, behind one registry.

Reading order: ``autotrustgo.py`` and ``emo.py`` (what each optimizer is), their rules
(``autotrustgo_described.py``, ``emonavi.py``, ...), ``chunks.py`` (how a rule runs fast).
"""

from .autotrustgo import AutoTrustGO
from .emoclan import EmoClan
from .emofact import EmoFact
from .emolynx import EmoLynx
from .emonavi import EmoNavi
from .emoneco import EmoNeco
from .emozeal import EmoZeal
from .level_normaliser import LevelNormaliser
from .loss_signal import LossSignal
from .options import Option
from .registry import (
    OPTIMIZERS,
    OptimizerSpec,
    build_optimizer,
    find_optimizer,
    resolve_options,
)
from .stepping import averaged_weights, optimizer_signals, step_optimizer

__all__ = [
    "OPTIMIZERS",
    "AutoTrustGO",
    "EmoClan",
    "EmoFact",
    "EmoLynx",
    "EmoNavi",
    "EmoNeco",
    "EmoZeal",
    "LevelNormaliser",
    "LossSignal",
    "OptimizerSpec",
    "Option",
    "averaged_weights",
    "build_optimizer",
    "find_optimizer",
    "optimizer_signals",
    "resolve_options",
    "step_optimizer",
]
