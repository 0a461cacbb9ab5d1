"""Nodes that make an image set: from a folder, or from pictures of the graph."""

from typing import Any

from comfy_api.latest import io, ui

from ..trustopt.data import ImageSet, folder_stamp, image_set_from_arrays, scan_folder
from ..trustopt.data.contact_sheet import contact_sheet
from .io_types import CATEGORY, ImageSetSocket
from .messages import show_text
from .pictures import from_images, from_masks, to_image
from .places import EXAMPLE, list_image_folders, resolve_image_folder

OUTPUTS = [
    ImageSetSocket.Output("image_set", tooltip="The pictures with captions, masks and repeats."),
    io.Int.Output("count", tooltip="Number of pictures trained on."),
    io.Image.Output("contact_sheet", tooltip="All pictures at a glance, with their captions."),
    io.String.Output("report", tooltip="What was read; which files were skipped, and why."),
]

TRIGGER_WORD = io.String.Input(
    "trigger_word",
    default="",
    optional=True,
    tooltip="A rare word that calls up what is learned, such as 'zxq cat'. Added to the front of "
    "captions that lack it.",
)


def outputs(images: ImageSet, node: type[io.ComfyNode]) -> io.NodeOutput:
    """Return a set with its count, contact sheet and report, and show the latter two."""
    report = images.report()
    show_text(report, node.hidden.unique_id)
    sheet = to_image(contact_sheet(images))
    return io.NodeOutput(images, len(images.samples), sheet, report, ui=ui.PreviewImage(sheet))


class LoadImageSet(io.ComfyNode):
    """Read a folder of pictures, captions and masks."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TrustOpt_LoadImageSet",
            display_name="Load Image Set",
            category=CATEGORY,
            description="Reads a folder of pictures to train on, with captions (name.txt beside "
            "name.png, or metadata.jsonl), masks and kohya's repeat folders (10_cat). One bad file "
            "does not stop it: the report says what was skipped.",
            search_aliases=["load dataset", "training images", "image folder", "kohya dataset"],
            has_intermediate_output=True,
            inputs=[
                io.Combo.Input(
                    "folder",
                    options=[*list_image_folders(), EXAMPLE],
                    tooltip="A folder of pictures below ComfyUI's input folder, or the example set "
                    "that comes with this pack. Press R after adding a folder.",
                ),
                TRIGGER_WORD,
                io.String.Input(
                    "caption_extension",
                    default=".txt",
                    optional=True,
                    advanced=True,
                    tooltip="Extension of caption files, tried first; .txt and .caption follow.",
                ),
                io.Int.Input(
                    "repeats",
                    default=1,
                    min=1,
                    max=1000,
                    optional=True,
                    advanced=True,
                    tooltip="Times each picture is seen an epoch. Leave 1: the preset repeats what "
                    "needs it.",
                ),
            ],
            outputs=OUTPUTS,
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, folder: str | None) -> bool | str:
        if folder is None:  # linked: its value is not known yet
            return True
        try:
            resolve_image_folder(folder)
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, folder: str | None, **_: Any) -> str:
        return "" if folder is None else folder_stamp(resolve_image_folder(folder))

    @classmethod
    def execute(
        cls,
        folder: str,
        trigger_word: str = "",
        caption_extension: str = ".txt",
        repeats: int = 1,
    ) -> io.NodeOutput:
        images = scan_folder(
            resolve_image_folder(folder),
            trigger_word=trigger_word,
            caption_extension=caption_extension,
            repeats=repeats,
        )
        return outputs(images, cls)


class ImageSetFromImages(io.ComfyNode):
    """Make an image set of pictures that other nodes load or make."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TrustOpt_ImageSetFromImages",
            display_name="Image Set from Images",
            category=CATEGORY,
            description="Collects pictures of the graph (batches or lists, also of different "
            "sizes) and their captions into a set to train on.",
            search_aliases=["images to dataset", "make dataset", "training images"],
            has_intermediate_output=True,
            is_input_list=True,
            inputs=[
                io.Image.Input("images", tooltip="Pictures, as a batch or a list."),
                io.String.Input(
                    "captions",
                    multiline=True,
                    default="",
                    optional=True,
                    tooltip="One line for each picture, or one for all; or a list of captions from "
                    "another node.",
                ),
                io.Mask.Input(
                    "masks",
                    optional=True,
                    tooltip="One mask for each picture: white is what is learned.",
                ),
                TRIGGER_WORD,
                io.String.Input(
                    "name", default="images", optional=True, tooltip="Name of the set in reports."
                ),
                io.Int.Input(
                    "repeats",
                    default=1,
                    min=1,
                    max=1000,
                    optional=True,
                    advanced=True,
                    tooltip="Times each picture is seen an epoch.",
                ),
            ],
            outputs=OUTPUTS,
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        images: list[Any],
        captions: list[str] | None = None,
        masks: list[Any] | None = None,
        trigger_word: list[str] | None = None,
        name: list[str] | None = None,
        repeats: list[int] | None = None,
    ) -> io.NodeOutput:
        pictures = from_images(images)
        image_set = image_set_from_arrays(
            pictures,
            split_captions(captions or [], len(pictures)),
            name=(name or ["images"])[0],
            trigger_word=(trigger_word or [""])[0],
            masks=from_masks(masks or []),
            repeats=(repeats or [1])[0],
        )
        return outputs(image_set, cls)


def split_captions(captions: list[str], count: int) -> list[str]:
    """Return captions as the user means them: one text of ``count`` lines is one each."""
    if len(captions) != 1:
        return captions
    lines = captions[0].strip().splitlines()
    return lines if len(lines) == count else [line for line in (" ".join(lines),) if line]
