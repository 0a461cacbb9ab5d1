"""The node that writes a training as a job file, for machines without ComfyUI."""

from typing import Any

from comfy_api.latest import io

from .io_types import CATEGORY
from .messages import show_text
from .places import problem_of
from .training_inputs import (
    DEFAULTS,
    graphs_widget,
    regularisation_socket,
    samples_socket,
    seed_widget,
    setting_widgets,
    sockets,
)


class ExportJob(io.ComfyNode):
    """Write ``job.toml`` and a list of the pictures."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TrustOpt_ExportJob",
            display_name="Export Job",
            category=CATEGORY,
            description="Writes a training as a job file that trains without ComfyUI, on a server "
            "or on many GPUs: trustopt train job.toml. Connect what Train LoRA is connected to; "
            "the LoRA is the same. Trains nothing itself.",
            search_aliases=["headless", "job.toml", "multi GPU", "export training", "server"],
            is_output_node=True,
            inputs=[
                *sockets(),
                io.String.Input(
                    "name",
                    default=DEFAULTS.name,
                    tooltip="Name of the LoRA to be, and of the folder in output/trustopt_jobs. A "
                    "name that is taken gets a number.",
                ),
                seed_widget(),
                io.Boolean.Input(
                    "copy_images",
                    default=True,
                    optional=True,
                    tooltip="Copy pictures, captions and masks beside the job, so that the folder "
                    "can be carried elsewhere whole. Off: the job names their folder.",
                ),
                *setting_widgets(),
                samples_socket(),
                regularisation_socket(),
                graphs_widget(),
            ],
            outputs=[io.String.Output("path", tooltip="Where the job file is.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, name: str | None) -> bool | str:
        return problem_of(name)

    @classmethod
    def execute(cls, copy_images: bool = True, **inputs: Any) -> io.NodeOutput:
        # Imported when it runs: ComfyUI shows every user how long each pack takes to load.
        from .job_export import export_job
        from .training import TrainRequest

        job = export_job(TrainRequest.of(**inputs), copy_images=copy_images)
        show_text(job.report(), cls.hidden.unique_id)
        return io.NodeOutput(str(job.path))
