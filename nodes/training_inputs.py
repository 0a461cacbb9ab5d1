"""Inputs of every node that takes a whole training: Train LoRA, Export Job.

Their order in a schema is the schema's own: widgets are saved by position.
"""

from typing import Any

from comfy_api.latest import io

from ..trustopt.config import JobConfig
from .io_types import (
    AdapterSocket,
    ImageSetSocket,
    ObjectiveSocket,
    OptimizerSocket,
    PlanSocket,
    SamplesSocket,
)
from .widgets import LARGEST_SEED, auto_int

DEFAULTS = JobConfig(name="my_lora")


def sockets() -> list[Any]:
    """Return the sockets that say what is trained, and how."""
    return [
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
    ]


def seed_widget() -> Any:
    """Return the widget of the seed."""
    return io.Int.Input(
        "seed",
        default=DEFAULTS.seed,
        min=0,
        max=LARGEST_SEED,
        control_after_generate=io.ControlAfterGenerate.fixed,
        tooltip="Of everything random. The same seed and job give the same LoRA.",
    )


def samples_socket() -> Any:
    """Return the socket of the sample pictures."""
    return SamplesSocket.Input("samples", optional=True, tooltip="Sample pictures during training.")


def regularisation_socket() -> Any:
    """Return the socket of the regularisation pictures."""
    return ImageSetSocket.Input(
        "regularisation",
        optional=True,
        tooltip="Pictures that should go on looking as the base model makes them, such as other "
        "members of the class; drawn as often as the others.",
    )


def graphs_widget() -> Any:
    """Return the widget that turns CUDA graphs off."""
    return io.Combo.Input(
        "cuda_graphs",
        options=["auto", "off"],
        default=DEFAULTS.cuda_graphs,
        optional=True,
        advanced=True,
        tooltip="auto: on an NVIDIA GPU with room for it, the work of a step is recorded and "
        "launched as one. The LoRA is the same; small batches are much faster.",
    )


def setting_widgets() -> list[Any]:
    """Return the widgets of how a run is kept and measured."""
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
