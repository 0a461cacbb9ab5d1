"""Optimizers: AutoTrustGO, the Emo family, and baselines behind one registry."""

from .autotrustgo import AutoTrustGO
from .emoclan import EmoClan
from .emofact import EmoFact
from .emolynx import EmoLynx
from .emonavi import EmoNavi
from .emoneco import EmoNeco
from .emozeal import EmoZeal
from .loss_signal import LossSignal
from .registry import (
    OPTIMIZERS,
    OptimizerSpec,
    Option,
    averaged_weights,
    build_optimizer,
    find_optimizer,
    optimizer_signals,
    resolve_options,
    step_optimizer,
)

__all__ = [
    "OPTIMIZERS",
    "AutoTrustGO",
    "EmoClan",
    "EmoFact",
    "EmoLynx",
    "EmoNavi",
    "EmoNeco",
    "EmoZeal",
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
