"""The trainer node."""

import sys
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import folder_paths
from comfy_api.latest import io

from .io_types import CATEGORY, SignalsSocket
from .places import problem_of, resolve_lora_file
from .runs import times_lapsed
from .training_inputs import (
    DEFAULTS,
    graphs_widget,
    regularisation_socket,
    samples_socket,
    seed_widget,
    setting_widgets,
    sockets,
)

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
                *sockets(),
                io.String.Input(
                    "name",
                    default=DEFAULTS.name,
                    tooltip="Name of the LoRA file and of the run. A name that is taken gets a "
                    "number: nothing is overwritten.",
                ),
                seed_widget(),
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
                *setting_widgets(),
                samples_socket(),
                io.Boolean.Input(
                    "resume_anyway",
                    default=False,
                    optional=True,
                    advanced=True,
                    tooltip="Resume although the model, the pictures or the batch size are not "
                    "those the run was started with. Without it that is refused, and the "
                    "difference named.",
                ),
                regularisation_socket(),
                graphs_widget(),
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
        return problem_of(name)

    @classmethod
    def fingerprint_inputs(cls, **_: Any) -> int:
        # A run that was cut short, or whose file is gone, must not be served from ComfyUI's cache.
        return times_lapsed(cls.hidden.unique_id)

    @classmethod
    def execute(
        cls,
        resume: bool = False,
        start_from: str = NEW,
        resume_anyway: bool = False,
        **inputs: Any,
    ) -> io.NodeOutput:
        # Imported when it runs: ComfyUI shows every user how long each pack takes to load.
        from .training import NodeContext, TrainRequest, outputs, train_lora

        request = replace(
            TrainRequest.of(**inputs),
            resume=resume,
            anyway=resume_anyway,
            start_from=None if start_from == NEW else resolve_lora_file(start_from),
            node=NodeContext.of(cls),
        )
        return outputs(train_lora(request))
