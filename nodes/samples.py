"""The samples node: which pictures a training makes on its way; optional."""

from dataclasses import dataclass
from typing import Any

from comfy.samplers import KSampler
from comfy_api.latest import io

from .io_types import CATEGORY, SamplesSocket
from .widgets import LARGEST_SEED, auto_choice, auto_float, auto_int, chosen

MOST_PROMPTS = 16
"""More cost more time than they tell: a training makes each of them again and again."""

LARGEST_SIDE = 4096


@dataclass(frozen=True, kw_only=True)
class SampleChoice:
    """What the user set; ``sampler.plan_samples`` fills in the rest for a model."""

    prompts: tuple[str, ...] = ()
    """As written, ``[trigger]`` included; none for captions of the image set."""
    negative: str = ""
    seed: int = 0
    before_training: bool = True
    guidance: float = 3.5
    steps: int = 20
    every: int | None = None
    """Training steps between pictures; 0 makes them before and after training only."""
    width: int | None = None
    height: int | None = None
    """Pixels."""
    cfg: float | None = None
    sampler_name: str | None = None
    scheduler: str | None = None


class Samples(io.ComfyNode):
    """Choose the pictures that a training makes on its way."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TrustOpt_Samples",
            display_name="Training Samples",
            category=CATEGORY,
            description="Sample pictures during training: the same prompts and noise before "
            "training, every few steps and at the end, so that you see what the LoRA learns and "
            "when it has learned enough. They do not change the training.",
            search_aliases=["sample images", "preview", "validation images", "sample prompts"],
            inputs=[
                io.String.Input(
                    "prompts",
                    multiline=True,
                    default="",
                    placeholder="one prompt a line; [trigger] stands for the trigger word; "
                    "empty: two captions of the image set",
                    tooltip="One prompt a line, at most 16. [trigger] becomes the image set's "
                    "trigger word. Empty takes two captions of the image set.",
                ),
                io.String.Input(
                    "negative",
                    default="",
                    optional=True,
                    tooltip="What the pictures should not show. FLUX reads it at a cfg above 1.",
                ),
                auto_int(
                    "every",
                    "Training steps between pictures; 0 makes them before and after training "
                    "only. auto takes the preset's.",
                ),
                io.Boolean.Input(
                    "before_training",
                    default=True,
                    optional=True,
                    tooltip="Make the pictures before step 1, too: to compare with.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=LARGEST_SEED,
                    optional=True,
                    control_after_generate=io.ControlAfterGenerate.fixed,
                    tooltip="Of the first prompt's noise, the same at every step; each further "
                    "prompt counts one up.",
                ),
                *(
                    auto_int(
                        side,
                        f"{side.capitalize()} of the pictures, pixels. auto is the training's "
                        "resolution.",
                        most=LARGEST_SIDE,
                    )
                    for side in ("width", "height")
                ),
                *_sampler_widgets(),
            ],
            outputs=[SamplesSocket.Output("samples", tooltip="The samples, for Train LoRA.")],
        )

    @classmethod
    def validate_inputs(cls, prompts: str | None) -> bool | str:
        if prompts is None:  # linked: its value is not known yet
            return True
        try:
            prompts_in(prompts)
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def execute(cls, prompts: str, negative: str = "", **values: Any) -> io.NodeOutput:
        return io.NodeOutput(
            SampleChoice(prompts=prompts_in(prompts), negative=negative, **chosen(values))
        )


def prompts_in(text: str) -> tuple[str, ...]:
    """Return the prompts of a text, one a line; blank lines and repetitions are left out.

    Raises:
        ValueError: If there are more than ``MOST_PROMPTS``.
    """
    lines = (line.strip() for line in text.splitlines())
    prompts = tuple(dict.fromkeys(line for line in lines if line))
    if len(prompts) > MOST_PROMPTS:
        raise ValueError(
            f"Training Samples has {len(prompts)} prompts, at most {MOST_PROMPTS} are allowed: "
            "each is one line and is sampled again and again; remove some"
        )
    return prompts


def _sampler_widgets() -> list[Any]:
    return [
        io.Int.Input(
            "steps",
            default=SampleChoice.steps,
            min=1,
            max=200,
            optional=True,
            tooltip="Sampling steps of a picture.",
        ),
        auto_float(
            "cfg",
            "How strictly pictures follow the prompt. auto is 6 for SDXL, 1 for FLUX.",
            most=100.0,
            step=0.1,
            advanced=True,
        ),
        auto_choice(
            "sampler_name",
            KSampler.SAMPLERS,
            "ComfyUI's sampler. auto is dpmpp_2m for SDXL, euler for FLUX and v-prediction.",
            advanced=True,
        ),
        auto_choice(
            "scheduler",
            KSampler.SCHEDULERS,
            "ComfyUI's noise schedule. auto is karras for SDXL, simple for FLUX, normal for "
            "v-prediction.",
            advanced=True,
        ),
        io.Float.Input(
            "guidance",
            default=SampleChoice.guidance,
            min=0.0,
            max=100.0,
            step=0.1,
            optional=True,
            advanced=True,
            tooltip="FLUX: guidance of the pictures, as in FluxGuidance; SDXL has none.",
        ),
    ]
