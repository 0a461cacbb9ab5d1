"""The adapter node: which layers are trained, and how; optional."""

import re
from collections.abc import Mapping
from typing import Any, get_args

from comfy_api.latest import io

from ..trustopt.config import AdapterConfig, Algorithm, Targets
from .io_types import CATEGORY, AdapterSocket
from .widgets import ON_OFF, auto_choice, auto_float, auto_int, chosen

DEFAULTS = AdapterConfig()

RULE_FIELDS = {"rank": ("ranks", int), "alpha": ("alphas", float), "lr": ("lr_scales", float)}
"""What a line of ``layer_rules`` may set -> field of ``AdapterConfig`` and its kind."""


class Adapter(io.ComfyNode):
    """Choose the adapter's algorithm, size and layers."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TrustOpt_Adapter",
            display_name="LoRA Adapter",
            category=CATEGORY,
            description="Changes what is trained: algorithm, rank and layers. Optional: without "
            "it the preset's LoRA is trained. -1 and auto are the preset's values.",
            search_aliases=["LoRA rank", "LoHa", "LoKr", "DoRA", "OFT", "LyCORIS", "layers"],
            inputs=[
                io.Combo.Input(
                    "algorithm",
                    options=list(get_args(Algorithm)),
                    default=DEFAULTS.algorithm,
                    tooltip="lora is the usual one and loads everywhere. locon adds 3x3 "
                    "convolutions, dora trains direction and size apart, loha and lokr say more "
                    "with fewer numbers, oft rotates, rslora scales by the root of the rank.",
                ),
                auto_int("rank", "Inner dimension: what the adapter can hold.", most=1024),
                auto_float("alpha", "The change is scaled by alpha / rank. Follows the rank."),
                auto_choice(
                    "targets",
                    get_args(Targets),
                    "Layers trained. default is what other trainers train: attention and MLP.",
                ),
                io.String.Input(
                    "layer_regex",
                    default=DEFAULTS.regex,
                    optional=True,
                    advanced=True,
                    tooltip="Regular expression over layer names, instead of targets: "
                    "'double_blocks.*qkv' trains FLUX's image and text attention alone.",
                ),
                *_number_widgets(),
                auto_choice(
                    "train_text_encoders",
                    ON_OFF,
                    "Adapters on both text encoders, too (SDXL).",
                    advanced=True,
                ),
                io.Combo.Input(
                    "init",
                    options=["kaiming", "gaussian"],
                    default=DEFAULTS.init,
                    optional=True,
                    advanced=True,
                    tooltip="How LoRA's first matrix starts; the second starts at zero.",
                ),
                io.String.Input(
                    "layer_rules",
                    default="",
                    multiline=True,
                    optional=True,
                    advanced=True,
                    tooltip="Other values for some layers, one line each, the first match counts: "
                    "'attn2: rank=32, alpha=16' or 'input_blocks: lr=0.5' (a factor).",
                ),
            ],
            outputs=[AdapterSocket.Output("adapter", tooltip="The adapter, for Train LoRA.")],
        )

    @classmethod
    def validate_inputs(cls, layer_rules: str | None = "") -> bool | str:
        try:
            parse_layer_rules(layer_rules or "")
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def execute(cls, layer_rules: str = "", layer_regex: str = "", **values: Any) -> io.NodeOutput:
        settings = chosen(values) | parse_layer_rules(layer_rules)
        if layer_regex.strip():
            settings["regex"] = layer_regex.strip()
        AdapterConfig(**settings)  # refuses bad values here, on the node that has them
        return io.NodeOutput(settings)


def _number_widgets() -> list[Any]:
    """Return the widgets of plain numbers: name, largest, step, meaning."""
    rows = (
        ("conv_rank", 1024, 1, "Rank of 3x3 convolutions, where they are trained."),
        ("conv_alpha", 1e4, 0.5, "Alpha of 3x3 convolutions."),
        ("dropout", 0.99, 0.01, "Share of an adapter's inputs dropped each step; 0.1 is much."),
        ("rank_dropout", 0.99, 0.01, "Share of ranks dropped each step."),
        ("module_dropout", 0.99, 0.01, "Share of adapters left out each step."),
        ("max_norm", 1e4, 0.1, "Bound on the size of each layer's change; 0 is off."),
        ("lora_plus_ratio", 64.0, 0.5, "LoRA+: larger steps for the second matrix; 16, 1 is off."),
    )
    widgets = []
    for name, most, step, meaning in rows:
        default = getattr(DEFAULTS, name)
        kind, least = (io.Int, 1) if isinstance(default, int) else (io.Float, 0.0)
        widgets.append(
            kind.Input(
                name,
                default=default,
                min=least,
                max=most,
                step=step,
                optional=True,
                advanced=True,
                tooltip=meaning,
            )
        )
    return widgets


def parse_layer_rules(text: str) -> dict[str, Mapping[str, float]]:
    """Read lines such as ``attn2: rank=32, alpha=16`` into fields of ``AdapterConfig``.

    Raises:
        ValueError: If a line is no rule; it is quoted.
    """
    fields: dict[str, dict[str, float]] = {}
    for line in filter(str.strip, text.splitlines()):
        pattern, colon, settings = line.rpartition(":")
        pairs = re.findall(r"(\w+)\s*=\s*([-+.\w]+)", settings)
        if not (colon and pattern.strip() and pairs):
            raise ValueError(
                f"layer_rules has the line {line.strip()!r}: write 'regex: rank=32, alpha=16', "
                "with one or more of rank, alpha and lr"
            )
        for key, value in pairs:
            field, number = _rule_value(key, value, line)
            fields.setdefault(field, {})[pattern.strip()] = number
    return dict(fields)


def _rule_value(key: str, value: str, line: str) -> tuple[str, float]:
    if key not in RULE_FIELDS:
        raise ValueError(
            f"layer_rules sets {key!r} in {line.strip()!r}: only {', '.join(RULE_FIELDS)} are known"
        )
    field, kind = RULE_FIELDS[key]
    try:
        return field, kind(value)
    except ValueError:
        raise ValueError(
            f"layer_rules gives {key} the value {value!r} in {line.strip()!r}: write a number"
        ) from None
