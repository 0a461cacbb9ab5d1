"""Image count + model family + purpose -> a training plan; pure functions, no torch.

Reading order: ``values`` (what a plan holds), ``presets`` (the JSON tables), ``train_plan``
(``make_plan``), ``resolve`` (the optimizer's say), ``report``,
``advice``, ``wording`` and ``phrases`` (what the user reads, in which language).
"""

from .advice import caption_help, image_set_warnings, overfit_help
from .phrases import ENGLISH, Phrase, Table, say
from .presets import Preset, PresetRow, load_preset, load_presets
from .report import lora_file_bytes, toast_text
from .resolve import ResolvedPlan, SchedulePolicy, resolve_for_optimizer
from .tables import preset_tables
from .train_plan import TrainPlan, make_plan, num_epochs, steps_per_epoch
from .values import FAMILIES, PURPOSES, SCHEDULERS, VALUES, Rule, check_value

__all__ = [
    "ENGLISH",
    "FAMILIES",
    "PURPOSES",
    "SCHEDULERS",
    "VALUES",
    "Phrase",
    "Preset",
    "PresetRow",
    "ResolvedPlan",
    "Rule",
    "SchedulePolicy",
    "Table",
    "TrainPlan",
    "caption_help",
    "check_value",
    "image_set_warnings",
    "load_preset",
    "load_presets",
    "lora_file_bytes",
    "make_plan",
    "num_epochs",
    "overfit_help",
    "preset_tables",
    "resolve_for_optimizer",
    "say",
    "steps_per_epoch",
    "toast_text",
]
