"""The preset node: an image set becomes a training plan."""

from typing import Any

from comfy_api.latest import io

from ..trustopt.plan import FAMILIES, PURPOSES, VALUES, Rule
from .io_types import CATEGORY, ImageSetSocket, PlanSocket
from .messages import show_text
from .widgets import ON_OFF, auto_choice, auto_float, auto_int, chosen

BASIC = ("steps", "lr", "rank", "alpha", "repeats", "epochs", "batch_size", "resolution")
"""Values that most users look at; the others are marked as advanced."""

FINEST = {"lr": 1e-7, "weight_decay": 1e-4}
"""Steps of widgets that need finer ones than 0.01."""

LARGEST = {"lr": 10.0}

ELSEWHERE = ("sample_every",)
"""Values that another node's widget sets."""


def value_widget(name: str, rule: Rule) -> Any:
    """Return the widget of one value of a plan."""
    tooltip = f"{rule.meaning[0].upper()}{rule.meaning[1:]}."
    advanced = name not in BASIC
    if rule.kind is bool:
        return auto_choice(name, ON_OFF, tooltip, advanced=advanced)
    if rule.kind is str:
        # A plan's own "auto" (of timesteps) lets the model decide; as a widget both are one.
        return auto_choice(name, rule.choices, tooltip, advanced=advanced)
    if rule.kind is int:
        return auto_int(name, tooltip, advanced=advanced)
    most = min(rule.most, LARGEST.get(name, 1e4))
    return auto_float(name, tooltip, most=most, step=FINEST.get(name, 0.01), advanced=advanced)


class Preset(io.ComfyNode):
    """Compute a training plan for an image set."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TrustOpt_Preset",
            display_name="Training Preset",
            category=CATEGORY,
            description="Chooses steps, learning rate, rank and the rest for the number of "
            "pictures, the model family and the purpose, from published experience. Whatever you "
            "set yourself is kept: -1 and auto are left to the preset.",
            search_aliases=["training parameters", "auto parameters", "training plan", "steps"],
            inputs=[
                ImageSetSocket.Input("image_set", tooltip="The pictures to train on."),
                io.Model.Input(
                    "model",
                    optional=True,
                    tooltip="The model to train: tells the family. Not needed if you choose it.",
                ),
                auto_choice(
                    "family",
                    FAMILIES,
                    "Model family of the preset. auto: that of the connected model.",
                ),
                io.Combo.Input(
                    "purpose",
                    options=list(PURPOSES),
                    default="character",
                    optional=True,
                    tooltip="What the LoRA is for. character is one person or figure.",
                ),
                *(
                    value_widget(name, rule)
                    for name, rule in VALUES.items()
                    if name not in ELSEWHERE
                ),
            ],
            outputs=[
                PlanSocket.Output("plan", tooltip="The training plan, for Train LoRA."),
                io.String.Output(
                    "summary", tooltip="Every value; those you set are marked. Warnings below."
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        image_set: Any,
        model: Any = None,
        family: str = "auto",
        purpose: str = "character",
        **values: Any,
    ) -> io.NodeOutput:
        # Imported when it runs: ComfyUI shows every user how long each pack takes to load.
        from ..trustopt.train.plan_images import plan_images

        plan = plan_images(
            image_set,
            family=family_for(family, model),
            purpose=purpose,
            overrides=chosen(values),
        )
        show_text(plan.summary(), cls.hidden.unique_id)
        return io.NodeOutput(plan, plan.summary())


def family_for(family: str, model: Any) -> str:
    """Return the family chosen, or the connected model's.

    Raises:
        ValueError: If neither tells.
    """
    if family != "auto":
        return family
    if model is None:
        raise ValueError(
            f"family is auto and no model is connected: connect MODEL to the preset, "
            f"or choose {' or '.join(FAMILIES)}"
        )
    from .bridge.identify import family_of

    return family_of(model)
