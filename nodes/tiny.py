"""The node that makes the embedded demo model."""

from typing import Any

from comfy_api.latest import io

from ..trustopt.plan import FAMILIES
from .io_types import CATEGORY


class TinyModel(io.ComfyNode):
    """Make a small SDXL or FLUX, to try everything in seconds."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TrustOpt_TinyModel",
            display_name="Tiny Model",
            category=CATEGORY,
            description="SDXL's or FLUX's architecture in a few million weights: a real MODEL, "
            "CLIP and VAE for 64 x 64 pictures, nothing downloaded. To learn the nodes and to test "
            "a graph; its pictures are not art.",
            search_aliases=["demo model", "test model", "quickstart", "toy model"],
            inputs=[
                io.Combo.Input(
                    "family",
                    options=list(FAMILIES),
                    default="sdxl",
                    tooltip="Whose architecture the model has in small. SDXL's draws Google's "
                    "emoji by name; FLUX's is untrained, its pictures are noise.",
                )
            ],
            outputs=[
                io.Model.Output("model", tooltip="The network."),
                io.Clip.Output("clip", tooltip="Its text encoders."),
                io.Vae.Output("vae", tooltip="Its VAE."),
            ],
        )

    @classmethod
    def execute(cls, family: Any) -> io.NodeOutput:
        # Imported when it runs: ComfyUI shows every user how long each pack takes to load.
        from .bridge.tiny import load_tiny

        tiny = load_tiny(family)
        return io.NodeOutput(tiny.model, tiny.clip, tiny.vae)
