"""The optimizer node: one list of all optimizers; only the chosen one's widgets show."""

from typing import Any

from comfy_api.latest import io

from ..trustopt.config import OptimizerConfig
from ..trustopt.optim import OPTIMIZERS, OptimizerSpec, Option, resolve_options
from .io_types import CATEGORY, OptimizerSocket
from .widgets import auto_float, chosen

PLANNED = ("trust_level", "weight_decay")
"""Options that the plan decides unless the user does."""


def lr_widget(spec: OptimizerSpec) -> Any:
    """Return the widget of an optimizer's learning rate.

    It is one of the optimizer's own: widgets are saved by position, so one that stood after the
    list would move whenever an optimizer gets a new option.
    """
    start = "" if spec.suggested_lr is None else f" Its author starts at {spec.suggested_lr:g}."
    return auto_float(
        "lr",
        f"Learning rate.{start} auto takes the plan's, as this optimizer adapts it.",
        most=100.0,
        step=1e-7,
    )


def option_widget(option: Option) -> Any:
    """Return the widget of one option of an optimizer."""
    common = {"tooltip": option.tooltip, "optional": True}
    if option.name in PLANNED:
        most = 1.0 if option.maximum is None else option.maximum
        return auto_float(option.name, option.tooltip, most=most, step=option.step or 0.01)
    if option.kind == "choice":
        choices = list(option.choices)
        return io.Combo.Input(option.name, options=choices, default=option.default, **common)
    if option.kind == "bool":
        return io.Boolean.Input(option.name, default=option.default, **common)
    number = io.Int.Input if option.kind == "int" else io.Float.Input
    return number(
        option.name,
        default=option.default,
        min=option.minimum,
        max=option.maximum,
        step=option.step,
        **common,
    )


def list_entry(spec: OptimizerSpec) -> str:
    """Return an optimizer's line in the tooltip of the list; the same on every machine."""
    needs = "" if spec.requires is None else f" Needs the package {spec.requires}."
    return f"{spec.name}: {spec.label}. {spec.description}{needs}"


class Optimizer(io.ComfyNode):
    """Choose the optimizer and set its options."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TrustOpt_Optimizer",
            display_name="Optimizer",
            category=CATEGORY,
            description="Chooses what turns gradients into steps: AutoTrustGO by szxex, the Emo "
            "family by muooon, or a common one to compare with.",
            search_aliases=["AutoTrustGO", "Emo", "EmoNavi", "AdamW", "Lion", "Prodigy"],
            inputs=[
                io.DynamicCombo.Input(
                    "optimizer",
                    options=[
                        io.DynamicCombo.Option(
                            name, [lr_widget(spec), *map(option_widget, spec.options)]
                        )
                        for name, spec in OPTIMIZERS.items()
                    ],
                    tooltip="\n".join(list_entry(spec) for spec in OPTIMIZERS.values()),
                ),
            ],
            outputs=[OptimizerSocket.Output("optimizer", tooltip="The optimizer, for Train LoRA.")],
        )

    @classmethod
    def validate_inputs(cls, optimizer: dict[str, Any] | None) -> bool | str:
        spec = OPTIMIZERS.get((optimizer or {}).get("optimizer", ""))
        if spec is None or spec.is_available:
            return True
        return (
            f"{spec.label} needs the package {spec.requires}: install it into ComfyUI's Python "
            f"(pip install {spec.requires}) and restart, or choose another optimizer"
        )

    @classmethod
    def execute(cls, optimizer: dict[str, Any]) -> io.NodeOutput:
        # ComfyUI passes None for an option that a prompt leaves out.
        options = {key: value for key, value in optimizer.items() if value is not None}
        name = options.pop("optimizer")
        on_auto = {key: options.pop(key) for key in ("lr", *PLANNED) if key in options}
        options |= chosen(on_auto)
        lr = options.pop("lr", None)
        resolve_options(name, options)  # refuses bad values here, on the node that has them
        return io.NodeOutput(OptimizerConfig(name=name, lr=lr, options=options))
