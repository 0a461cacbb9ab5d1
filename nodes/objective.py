"""The objective node: loss, noise levels, and what is made of pictures and captions; optional."""

from dataclasses import dataclass, field
from typing import Any

from comfy_api.latest import io

from ..trustopt.config import DataConfig, ObjectiveConfig
from ..trustopt.plan import VALUES
from .io_types import CATEGORY, ObjectiveSocket
from .widgets import auto_choice, auto_float, chosen

LOSS = ObjectiveConfig()
DATA = DataConfig()

DATA_FIELDS = frozenset(
    {
        "caption_dropout",
        "tag_dropout",
        "shuffle_tags",
        "keep_tokens",
        "random_crop",
        "class_word",
        "extra_resolutions",
        "upscale",
        "bucket_step",
        "caption_variants",
        "regularisation_weight",
    }
)
"""Widgets that set ``DataConfig``; the others set ``ObjectiveConfig``."""


@dataclass(frozen=True)
class ObjectiveChoice:
    """What the user set; the plan gives the rest."""

    objective: dict[str, Any] = field(default_factory=dict)
    """Fields of ``ObjectiveConfig``."""
    data: dict[str, Any] = field(default_factory=dict)
    """Fields of ``DataConfig``."""


def number(name: str, least: float, most: float, step: float, tooltip: str) -> Any:
    """Return the widget of a number, its default from the config it sets."""
    default = getattr(DATA if name in DATA_FIELDS else LOSS, name)
    kind = io.Int if isinstance(default, int) else io.Float
    return kind.Input(
        name,
        default=default,
        min=least,
        max=most,
        step=step,
        optional=True,
        advanced=True,
        tooltip=tooltip,
    )


def switch(name: str, tooltip: str) -> Any:
    """Return the widget of a switch, its default from the config it sets."""
    default = getattr(DATA if name in DATA_FIELDS else LOSS, name)
    return io.Boolean.Input(name, default=default, optional=True, advanced=True, tooltip=tooltip)


class Objective(io.ComfyNode):
    """Choose the loss and what it is measured on."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TrustOpt_Objective",
            display_name="Training Objective",
            category=CATEGORY,
            description="Changes what the training minimises, and on what: loss, noise levels, "
            "masks, captions, sizes. Optional: without it the preset's objective is used. -1 and "
            "auto are the preset's.",
            search_aliases=[
                "loss",
                "min SNR",
                "timesteps",
                "noise offset",
                "caption dropout",
                "multi-resolution",
                "buckets",
            ],
            inputs=[
                io.Combo.Input(
                    "loss",
                    options=["mse", "huber", "smooth_l1", "mae"],
                    default=LOSS.loss,
                    tooltip="mse is the usual one; huber and smooth_l1 mind outliers less.",
                ),
                auto_choice(
                    "weighting",
                    ("none", "min-snr", "debiased"),
                    "Weight of each noise level's loss. min-snr is usual for SDXL, none for FLUX.",
                ),
                auto_float("min_snr_gamma", "Bound of min-SNR weights; 5 is usual, 0 is off."),
                auto_choice(
                    "timesteps",
                    VALUES["timesteps"].choices,
                    "How noise levels are drawn. uniform is usual for SDXL, flux-shift for FLUX.",
                ),
                auto_float("caption_dropout", "Share of captions replaced by none.", most=0.99),
                number("noise_offset", 0.0, 1.0, 0.01, "Lets SDXL learn dark and bright; 0.05."),
                switch("masked", "Learn mainly inside the masks, where pictures have them."),
                number("unmasked_weight", 0.0, 1.0, 0.05, "Weight of the loss outside the mask."),
                number("guidance", 0.0, 10.0, 0.1, "FLUX: guidance while training; 1 for dev."),
                *_advanced_widgets(),
            ],
            outputs=[ObjectiveSocket.Output("objective", tooltip="The objective, for Train LoRA.")],
        )

    @classmethod
    def validate_inputs(cls, extra_resolutions: str | None = "") -> bool | str:
        try:
            parse_resolutions(extra_resolutions or "")
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def execute(cls, extra_resolutions: str = "", **values: Any) -> io.NodeOutput:
        settings = weighted(chosen(values))
        settings["extra_resolutions"] = parse_resolutions(extra_resolutions)
        data = {name: settings.pop(name) for name in DATA_FIELDS & settings.keys()}
        ObjectiveConfig(**settings)  # refuses bad values here, on the node that has them
        DataConfig(**data)
        return io.NodeOutput(ObjectiveChoice(settings, data))


def _advanced_widgets() -> list[Any]:
    return [
        number("huber_c", 0.001, 10.0, 0.01, "huber, smooth_l1: width of the quadratic part."),
        number("logit_mean", -5.0, 5.0, 0.1, "logit-normal: centre; below 0 is less noise."),
        number("logit_std", 0.01, 5.0, 0.1, "logit-normal: spread."),
        number("shift", 0.01, 20.0, 0.1, "shifted: above 1 is more noise."),
        switch("stratified", "Spread the noise levels of consecutive steps evenly: less variance."),
        number("pyramid_levels", 0, 10, 1, "Levels of coarse noise added; 0 is off."),
        number("pyramid_discount", 0.0, 1.0, 0.05, "Size of each coarser level."),
        number("input_perturbation", 0.0, 1.0, 0.01, "Extra noise on the input alone; 0.1."),
        number("tag_dropout", 0.0, 0.99, 0.01, "Share of tags left out, beyond keep_tokens."),
        switch("shuffle_tags", "Shuffle comma-separated tags, beyond keep_tokens."),
        number("keep_tokens", 0, 100, 1, "Tags at the front that stay where they are."),
        switch("random_crop", "Crop at five places, taking turns, instead of in the centre."),
        io.String.Input(
            "class_word",
            default=DATA.class_word,
            optional=True,
            advanced=True,
            tooltip="What the trigger word is one of ('woman'): every second step shows the "
            "pictures under this word and keeps what the base model makes of it. Empty is off.",
        ),
        io.String.Input(
            "extra_resolutions",
            default="",
            optional=True,
            advanced=True,
            tooltip="More sides to train at besides the preset's resolution, such as '768, 512'. A "
            "picture's sizes take turns: an epoch grows no longer.",
        ),
        switch(
            "upscale",
            "Enlarge pictures smaller than their bucket. Off: they get a smaller bucket of their "
            "own and train no blur.",
        ),
        number("bucket_step", 8, 512, 8, "Bucket sides are multiples of this; 64 is usual."),
        number("caption_variants", 1, 64, 1, "Variants of a caption with shuffled, dropped tags."),
        number(
            "regularisation_weight", 0.0, 10.0, 0.05, "Weight of regularisation pictures' loss; 1."
        ),
    ]


def weighted(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings with the weighting that a min-SNR gamma alone asks for; 0 is none."""
    gamma = settings.get("min_snr_gamma")
    if gamma is None:
        return settings
    if gamma == 0.0:
        settings = {name: value for name, value in settings.items() if name != "min_snr_gamma"}
    return {"weighting": "min-snr" if gamma > 0.0 else "none", **settings}


def parse_resolutions(text: str) -> tuple[int, ...]:
    """Read sides such as ``768, 512``.

    Raises:
        ValueError: If it is no list of whole numbers, or a side is too small.
    """
    sides = text.replace(",", " ").split()
    if not all(side.isdecimal() for side in sides):
        raise ValueError(
            f"extra_resolutions must be sides in pixels such as '768, 512', got {text!r}"
        )
    return DataConfig(extra_resolutions=tuple(map(int, sides))).extra_resolutions
