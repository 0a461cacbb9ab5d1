"""What is in a LoRA file, as text for people."""

import json
from collections.abc import Mapping
from pathlib import Path

from .blocks import block_norms
from .read import LoraFile, read_lora

_BAR = 40


def inspect_lora(path: Path) -> str:
    """Return a report: family, algorithm, ranks, targets, norms by block, the main metadata.

    Keys in unknown styles are listed instead of refused.

    Raises:
        ValueError: If the file cannot be read or holds no LoRA at all.
    """
    return describe_lora(read_lora(path, strict=False))


def describe_lora(lora: LoraFile, norms: Mapping[str, float] | None = None) -> str:
    """Return the report of ``inspect_lora`` for a file that has been read.

    Args:
        lora: The file.
        norms: Its ``block_norms``, if they are known.
    """
    norms = block_norms(lora.patches) if norms is None else norms
    sections = [_head(lora), _layers(lora), _norms(norms), _metadata(lora)]
    if lora.unknown:
        sections.append([f"unknown keys ({len(lora.unknown)}):", *_indented(lora.unknown[:10])])
    return "\n\n".join("\n".join(section) for section in sections if section)


def _head(lora: LoraFile) -> list[str]:
    megabytes = lora.num_bytes / 2**20
    dtypes = ", ".join(f"{count} {name}" for name, count in lora.dtypes.items())
    return [
        f"{lora.name}  ({megabytes:.1f} MB)",
        f"  family     {lora.family or 'text encoders only'}",
        f"  format     {lora.file_format}",
        f"  algorithm  {', '.join(lora.algorithms)}",
        f"  rank       {_counted(lora.ranks)}",
        f"  alpha      {_counted(lora.alphas)}",
        f"  tensors    {dtypes}",
    ]


def _layers(lora: LoraFile) -> list[str]:
    kinds: dict[str, int] = {}
    for name in lora.patches:
        kind = ".".join(part for part in name.split(".") if not part.isdigit())
        kinds[kind] = kinds.get(kind, 0) + 1
    most = sorted(kinds.items(), key=lambda item: (-item[1], item[0]))
    return [f"layers ({len(lora.patches)}):", *_indented(f"{count:4d}  {k}" for k, count in most)]


def _norms(norms: Mapping[str, float]) -> list[str]:
    largest = max(norms.values())
    width = max(len(block) for block in norms)
    rows = []
    for block, value in norms.items():
        length = round(_BAR * value / largest) if largest > 0.0 else 0
        rows.append(f"{block:<{width}}  {value:9.4f}  {'#' * length}".rstrip())
    return ["norm of the change by block:", *_indented(rows)]


def _metadata(lora: LoraFile) -> list[str]:
    shown = (
        ("title", "modelspec.title"),
        ("base model", "ss_sd_model_name"),
        ("architecture", "modelspec.architecture"),
        ("base version", "ss_base_model_version"),
        ("trigger", "modelspec.trigger_phrase"),
        ("steps", "ss_steps"),
        ("epochs", "ss_num_epochs"),
        ("images", "ss_num_train_images"),
        ("learning rate", "ss_learning_rate"),
        ("optimizer", "ss_optimizer"),
        ("resolution", "ss_resolution"),
        ("seed", "ss_seed"),
        ("date", "modelspec.date"),
        ("AutoV3 hash", "sshs_model_hash"),
    )
    rows = [f"{label:<14}{lora.metadata[key]}" for label, key in shown if key in lora.metadata]
    rows += [f"{'tags':<14}{tags}" for tags in [_tags(lora)] if tags]
    others = len(lora.metadata) - len(rows)
    return ["metadata:", *_indented([*rows, f"and {others} more fields"])] if rows else []


def _tags(lora: LoraFile, count: int = 12) -> str:
    """Return the most frequent tags of ``ss_tag_frequency``."""
    try:
        folders = json.loads(lora.metadata.get("ss_tag_frequency", "{}"))
        totals: dict[str, int] = {}
        for tags in folders.values():
            for tag, number in tags.items():
                totals[tag.strip()] = totals.get(tag.strip(), 0) + int(number)
    except (ValueError, AttributeError, TypeError):  # some tools write other shapes here
        return ""
    most = sorted(totals.items(), key=lambda item: (-item[1], item[0]))[:count]
    return ", ".join(f"{tag} ({number})" for tag, number in most)


def _counted(values: dict) -> str:
    if len(values) == 1:
        return str(next(iter(values)))
    return ", ".join(f"{value} ({count} layers)" for value, count in values.items())


def _indented(lines: object) -> list[str]:
    return [f"  {line}" for line in lines]  # type: ignore[attr-defined]
