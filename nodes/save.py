"""The node that exports a LoRA: another format, another precision, another name."""

from typing import Any

from comfy_api.latest import io

from .io_types import CATEGORY
from .messages import show_text
from .places import problem_of

DTYPES = ("fp32", "bf16", "fp16")


class SaveLora(io.ComfyNode):
    """Write a LoRA file in a format of choice, and read it back."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TrustOpt_SaveLora",
            display_name="Save LoRA As",
            category=CATEGORY,
            description="Exports a LoRA to output/loras in another format or precision, and reads "
            "it back. Train LoRA has saved it already: this node is for other programs.",
            search_aliases=["export lora", "convert lora", "kohya", "diffusers", "lora format"],
            is_output_node=True,
            inputs=[
                io.LoraModel.Input(
                    "lora",
                    optional=True,
                    tooltip="A LoRA of this graph. It carries no training metadata: connect path "
                    "as well, or instead, to keep it.",
                ),
                io.String.Input(
                    "path",
                    default="",
                    optional=True,
                    tooltip="A LoRA file: path of Train LoRA, or a name in the loras folders.",
                ),
                io.String.Input(
                    "name",
                    default="my_lora_export",
                    tooltip="Name of the new file in output/loras; a taken name gets a number.",
                ),
                io.Combo.Input(
                    "file_format",
                    options=["kohya", "comfy", "diffusers"],
                    default="kohya",
                    tooltip="kohya loads everywhere. comfy names layers as ComfyUI does. diffusers "
                    "splits FLUX's attention for diffusers (FLUX only).",
                ),
                io.Combo.Input(
                    "dtype",
                    options=["as it is", *DTYPES],
                    default="as it is",
                    optional=True,
                    tooltip="Precision of the file: fp16 and bf16 are half of fp32's size.",
                ),
            ],
            outputs=[io.String.Output("path", tooltip="Where the LoRA was saved.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, name: str | None) -> bool | str:
        return problem_of(name)

    @classmethod
    def execute(
        cls,
        name: str,
        file_format: Any,
        lora: Any = None,
        path: str = "",
        dtype: str = "as it is",
    ) -> io.NodeOutput:
        # Imported when it runs: ComfyUI shows every user how long each pack takes to load.
        from .exporting import check_saved, export, source_of

        source = source_of(lora, path)
        saved = export(source, name, file_format, dtype)
        show_text(check_saved(saved, source), cls.hidden.unique_id)
        return io.NodeOutput(str(saved))
