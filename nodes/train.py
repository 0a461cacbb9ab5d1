"""The trainer node."""

import sys
from importlib.util import find_spec
from typing import Any

import folder_paths
from comfy_api.latest import io

from ..trustopt.config import JobConfig, check_name
from .io_types import (
    CATEGORY,
    AdapterSocket,
    ImageSetSocket,
    ObjectiveSocket,
    OptimizerSocket,
    PlanSocket,
    SamplesSocket,
    SignalsSocket,
)
from .places import output_folders, resolve_lora_file
from .runs import times_lapsed
from .widgets import LARGEST_SEED, auto_int, chosen

DEFAULTS = JobConfig(name="my_lora")

NEW = "a new LoRA"
"""The entry of ``start_from`` that is no file."""


class TrainLora(io.ComfyNode):
    """Train a LoRA on the loaded model."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TrustOpt_TrainLora",
            display_name="Train LoRA (TrustOpt)",
            category=CATEGORY,
            description="Trains a LoRA for the loaded SDXL or FLUX model and saves it to "
            "output/loras. The model itself stays as it is. Stop saves what was trained; resume "
            "goes on from there.",
            search_aliases=["train lora", "fine-tune", "dreambooth", "lora trainer", "training"],
            is_output_node=True,
            inputs=[
                io.Model.Input("model", tooltip="SDXL or FLUX.1: what the LoRA is for."),
                io.Clip.Input("clip", tooltip="The model's text encoders: they read the captions."),
                io.Vae.Input("vae", tooltip="The model's VAE: it encodes the pictures."),
                ImageSetSocket.Input("image_set", tooltip="The pictures to train on."),
                PlanSocket.Input("plan", tooltip="Steps, learning rate and so on: a preset."),
                OptimizerSocket.Input("optimizer", tooltip="What turns gradients into steps."),
                AdapterSocket.Input(
                    "adapter", optional=True, tooltip="Another algorithm, rank or set of layers."
                ),
                ObjectiveSocket.Input(
                    "objective", optional=True, tooltip="Another loss, masks, caption dropout."
                ),
                io.String.Input(
                    "name",
                    default=DEFAULTS.name,
                    tooltip="Name of the LoRA file and of the run. A name that is taken gets a "
                    "number: nothing is overwritten.",
                ),
                io.Int.Input(
                    "seed",
                    default=DEFAULTS.seed,
                    min=0,
                    max=LARGEST_SEED,
                    control_after_generate=io.ControlAfterGenerate.fixed,
                    tooltip="Of everything random. The same seed and job give the same LoRA.",
                ),
                io.Boolean.Input(
                    "resume",
                    default=False,
                    optional=True,
                    tooltip="Go on with the newest run of this name, if it was stopped early. "
                    "Raise the preset's steps to train a finished one further.",
                ),
                io.Combo.Input(
                    "start_from",
                    options=[NEW, *folder_paths.get_filename_list("loras")],
                    default=NEW,
                    optional=True,
                    advanced=True,
                    tooltip="A LoRA to train further in a new run, with its algorithm, layers and "
                    "ranks; the adapter node does not count then.",
                ),
                *_advanced_widgets(),
                SamplesSocket.Input(
                    "samples", optional=True, tooltip="Sample pictures during training."
                ),
                io.Boolean.Input(
                    "resume_anyway",
                    default=False,
                    optional=True,
                    advanced=True,
                    tooltip="Resume although the model, the pictures or the batch size are not "
                    "those the run was started with. Without it that is refused, and the "
                    "difference named.",
                ),
                ImageSetSocket.Input(
                    "regularisation",
                    optional=True,
                    tooltip="Pictures that should go on looking as the base model makes them, such "
                    "as other members of the class; drawn as often as the others.",
                ),
            ],
            outputs=[
                io.LoraModel.Output("lora", tooltip="The trained LoRA, as saved."),
                io.Model.Output("model", tooltip="The model with the LoRA, ready to sample."),
                SignalsSocket.Output("signals", tooltip="Loss, learning rate, optimizer signals."),
                io.LossMap.Output("loss_map", tooltip="The losses, for Plot Loss Graph."),
                io.String.Output("path", tooltip="Where the LoRA was saved."),
                io.Image.Output("plot", tooltip="The signals, drawn."),
                io.Clip.Output(
                    "clip", tooltip="The text encoders; with the LoRA, if they were trained."
                ),
                io.Image.Output(
                    "samples",
                    tooltip="The sample pictures as one grid: prompts down, steps across. Nodes "
                    "after it do not run if none were made.",
                ),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.prompt, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def validate_inputs(cls, name: str | None) -> bool | str:
        if find_spec("peft") is None:
            return f"peft is missing: run  {sys.executable} -m pip install peft  and restart"
        try:
            if name is not None:  # linked: its value is not known yet
                check_name(name)
            output_folders().check_writable()
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, **_: Any) -> int:
        # A run that was cut short, or whose file is gone, must not be served from ComfyUI's cache.
        return times_lapsed(cls.hidden.unique_id)

    @classmethod
    def execute(
        cls,
        model: Any,
        clip: Any,
        vae: Any,
        image_set: Any,
        plan: Any,
        optimizer: Any,
        name: str,
        seed: int,
        adapter: Any = None,
        objective: Any = None,
        resume: bool = False,
        start_from: str = NEW,
        samples: Any = None,
        resume_anyway: bool = False,
        regularisation: Any = None,
        **settings: Any,
    ) -> io.NodeOutput:
        # Imported when it runs: ComfyUI shows every user how long each pack takes to load.
        from .training import NodeContext, TrainRequest, outputs, train_lora

        if regularisation is not None:
            image_set = image_set.with_regularisation(regularisation)
        request = TrainRequest(
            model=model,
            clip=clip,
            vae=vae,
            images=image_set,
            plan=plan,
            optimizer=optimizer,
            adapter=adapter,
            objective=objective,
            samples=samples,
            settings={"name": name, "seed": seed, **chosen(settings, words=["checkpointing"])},
            resume=resume,
            anyway=resume_anyway,
            start_from=None if start_from == NEW else resolve_lora_file(start_from),
            node=NodeContext.of(cls),
        )
        return outputs(train_lora(request))


def _advanced_widgets() -> list[Any]:
    return [
        auto_int(
            "save_every",
            "Steps between saved states, which resume goes on from; 0 saves at the end and on "
            "Stop only. auto takes the preset's.",
            advanced=True,
        ),
        io.Int.Input(
            "keep_last",
            default=DEFAULTS.keep_last,
            min=1,
            max=1000,
            optional=True,
            advanced=True,
            tooltip="Saved states kept on disk; older ones are removed.",
        ),
        io.Combo.Input(
            "save_dtype",
            options=["auto", "fp32", "bf16", "fp16"],
            default="auto",
            optional=True,
            advanced=True,
            tooltip="Precision of the LoRA file. auto: fp32 for a model in fp32, else fp16.",
        ),
        io.Combo.Input(
            "checkpointing",
            options=["auto", "on", "off"],
            default=DEFAULTS.checkpointing,
            optional=True,
            advanced=True,
            tooltip="Recompute activations instead of keeping them: much less memory, about a "
            "third more time.",
        ),
        _number("max_grad_norm", 1e4, 0.1, "Bound on the gradient's size; 0 does not clip."),
        _number("ema_decay", 0.9999, 0.0001, "Save a moving average of the weights; 0 is off."),
        io.Float.Input(
            "validation_fraction",
            default=DEFAULTS.data.validation_fraction,
            min=0.0,
            max=0.9,
            step=0.01,
            optional=True,
            advanced=True,
            tooltip="Share of the pictures held out to measure a validation loss on; 0 is none.",
        ),
        io.Int.Input(
            "validate_every",
            default=DEFAULTS.validate_every,
            min=0,
            max=1_000_000,
            optional=True,
            advanced=True,
            tooltip="Steps between validation losses.",
        ),
    ]


def _number(name: str, most: float, step: float, tooltip: str) -> Any:
    return io.Float.Input(
        name,
        default=getattr(DEFAULTS, name),
        min=0.0,
        max=most,
        step=step,
        optional=True,
        advanced=True,
        tooltip=tooltip,
    )
