"""The node that shows an image set as it will be trained on."""

from dataclasses import replace
from typing import Any

from comfy_api.latest import io, ui

from ..trustopt.data import contact_sheet, plan_image_set
from ..trustopt.host import PIXEL_MULTIPLES
from .io_types import CATEGORY, ImageSetSocket, ObjectiveSocket, PlanSocket
from .pictures import to_image
from .widgets import AUTO, auto_int


class ContactSheet(io.ComfyNode):
    """Draw the pictures of a set with captions and buckets."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TrustOpt_ContactSheet",
            display_name="Contact Sheet",
            category=CATEGORY,
            description="Shows the pictures of an image set with the captions they are trained "
            "under. With the preset's plan also each one's bucket, what is cropped away (dimmed), "
            "and which are enlarged.",
            search_aliases=[
                "preview dataset",
                "show captions",
                "aspect ratio buckets",
                "thumbnails",
            ],
            is_output_node=True,
            inputs=[
                ImageSetSocket.Input("image_set", tooltip="The pictures to show."),
                PlanSocket.Input(
                    "plan", optional=True, tooltip="A preset: its resolution decides the buckets."
                ),
                ObjectiveSocket.Input(
                    "objective",
                    optional=True,
                    tooltip="Its extra resolutions, upscale and bucket_step decide buckets, too.",
                ),
                io.Int.Input(
                    "page",
                    default=1,
                    min=1,
                    max=10_000,
                    optional=True,
                    tooltip="Which 64 pictures are shown.",
                ),
                auto_int(
                    "thumbnail",
                    "Side of a thumbnail in pixels, at least 32.",
                    most=1024,
                    advanced=True,
                ),
            ],
            outputs=[io.Image.Output("image", tooltip="The contact sheet, one picture.")],
        )

    @classmethod
    def execute(
        cls,
        image_set: Any,
        plan: Any = None,
        objective: Any = None,
        page: int = 1,
        thumbnail: int = AUTO,
    ) -> io.NodeOutput:
        buckets = None
        if plan is not None:
            # Imported when it runs: ComfyUI shows every user how long each pack takes to load.
            from ..trustopt.train.plan_job import data_of

            data = replace(data_of(plan), **(objective.data if objective else {}))
            buckets = plan_image_set(image_set, data, PIXEL_MULTIPLES[plan.family])
        size = None if thumbnail == AUTO else thumbnail
        sheet = to_image(contact_sheet(image_set, buckets, size, page))
        return io.NodeOutput(sheet, ui=ui.PreviewImage(sheet))
