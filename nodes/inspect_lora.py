"""The node that shows what is in a LoRA."""

from pathlib import Path
from typing import Any

import folder_paths
from comfy_api.latest import io, ui

from .io_types import CATEGORY
from .messages import show_text
from .pictures import to_image
from .places import resolve_lora_file
from .widgets import picture_widgets

CONNECTED = "the connected LoRA"
"""The entry of ``file`` that is no file, and what reports call a LoRA of the graph."""


class InspectLora(io.ComfyNode):
    """Report on a LoRA, and draw how much each block has learned."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TrustOpt_InspectLora",
            display_name="Inspect LoRA",
            category=CATEGORY,
            description="Shows what is in a LoRA of any tool: algorithm, ranks, layers, metadata, "
            "and how much each block of the model has learned.",
            search_aliases=["lora info", "lora metadata", "block weights", "lora norm", "rank"],
            is_output_node=True,
            inputs=[
                io.LoraModel.Input(
                    "lora",
                    optional=True,
                    tooltip="A LoRA of this graph. It carries no metadata.",
                ),
                io.Combo.Input(
                    "file",
                    options=[CONNECTED, *folder_paths.get_filename_list("loras")],
                    default=CONNECTED,
                    optional=True,
                    tooltip="A file of the loras folders, SDXL or FLUX, to inspect instead of the "
                    "connected LoRA. R refreshes the list.",
                ),
                *picture_widgets(),
            ],
            outputs=[
                io.Image.Output(
                    "blocks",
                    tooltip="The norm of the learned change in every block, as bars.",
                ),
                io.String.Output("report", tooltip="What trustopt inspect prints."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, file: str | None = CONNECTED, **_: Any) -> list[int]:
        if file is None or file == CONNECTED:
            return []
        try:
            status = resolve_lora_file(file).stat()
        except (OSError, ValueError):  # the run's own error says more
            return []
        return [status.st_mtime_ns, status.st_size]

    @classmethod
    def execute(
        cls,
        lora: Any = None,
        file: str = CONNECTED,
        theme: Any = "dark",
        width: int = 1280,
        height: int = 960,
    ) -> io.NodeOutput:
        # Imported when it runs: ComfyUI shows every user how long each pack takes to load.
        from ..trustopt.adapters import block_norms, describe_lora, read_lora, take_apart
        from ..trustopt.signals.block_norms import plot_block_norms

        if file != CONNECTED:
            found = read_lora(resolve_lora_file(file), strict=False)
        elif lora is not None:
            found = take_apart(lora, name=CONNECTED, strict=False)
        else:
            raise ValueError("nothing to inspect: connect lora, or choose a file of the list")
        norms = block_norms(found.patches)
        report = describe_lora(found, norms)
        note = Path(found.name).stem
        image = to_image(plot_block_norms(norms, note=note, size=(width, height), theme=theme))
        show_text(report.partition("\n\n")[0], cls.hidden.unique_id)
        return io.NodeOutput(image, report, ui=ui.PreviewImage(image, cls=cls))
