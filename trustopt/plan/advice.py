"""What the user should know about an image set, captions and overfitting."""

from .phrases import Phrase

FEW_IMAGES = 5
"""Fewer are warned about."""

MANY_IMAGES = 60
"""More are warned about: the last band of every table."""


def image_set_warnings(
    num_images: int,
    *,
    purpose: str = "character",
    missing_captions: int = 0,
    missing_trigger: int = 0,
    num_sizes: int = 1,
    num_small: int = 0,
    duplicates: int = 0,
) -> tuple[str, ...]:
    """Return what the user should know about an image set, one sentence or two each.

    Args:
        num_images: Images in the set.
        purpose: One of ``PURPOSES``.
        missing_captions: Images without a caption.
        missing_trigger: Captions that lack the trigger word.
        num_sizes: Different image sizes.
        num_small: Images smaller than the training resolution.
        duplicates: Images that repeat another one's content.
    """
    curate = (
        Phrase("Leave out the odd ones")
        if purpose == "style"
        else Phrase("Curate to the best 30-60")
    )
    warnings = {
        Phrase(
            "Few images ({number}): they burn in early. Add different views, or compare early "
            "checkpoints",
            number=num_images,
        ): 0 < num_images < FEW_IMAGES,
        Phrase(
            "{images} images, more than {many}. {advice}",
            images=num_images,
            many=MANY_IMAGES,
            advice=curate,
        ): num_images > MANY_IMAGES,
        Phrase(
            "Without a caption: {number} of {images} images",
            number=missing_captions,
            images=num_images,
        ): missing_captions > 0,
        Phrase(
            "Without the trigger word: {number} of {images} captions",
            number=missing_trigger,
            images=num_images,
        ): missing_trigger > 0,
        caption_help(purpose): missing_captions > 0 or missing_trigger > 0,
        Phrase(
            "{number} image sizes: each image trains in the aspect-ratio bucket nearest to it, "
            "with its edges cropped",
            number=num_sizes,
        ): num_sizes > 1,
        Phrase(
            "Smaller than the training resolution: {number} of {images} images. Use bigger ones, "
            "or lower the resolution",
            number=num_small,
            images=num_images,
        ): num_small > 0,
        Phrase(
            "Duplicates: {number} of {images} images. Remove them, or they weigh double",
            number=duplicates,
            images=num_images,
        ): duplicates > 0,
    }
    return tuple(text for text, applies in warnings.items() if applies)


def caption_help(purpose: str = "character") -> str:
    """Return how to caption for a purpose, in a few sentences."""
    if purpose == "character":
        return Phrase(
            "Put one rare trigger word in every caption, then a few short facts of identity. "
            "Leave out scene and style, which should stay free, and most clothes and "
            "expressions, which get locked in"
        )
    if purpose == "style":
        return Phrase(
            "Put one rare trigger word in every caption, then describe what the picture shows, "
            "not how it is drawn: what no caption names is learned as the style"
        )
    return Phrase(
        "Put one rare trigger word in every caption, then describe what varies from picture to "
        "picture: what no caption names is learned with the trigger word"
    )


def overfit_help() -> str:
    """Return the signs of overfitting and what to do about them."""
    return (
        "Signs of overfitting: frozen expressions, repeated clothes or backgrounds, prompts that "
        "no longer change the picture. Remedies: take an earlier checkpoint, halve or quarter the "
        "learning rate, use fewer repeats or steps, remove outliers"
    )
