"""What the user should know about an image set, captions and overfitting."""

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
    curate = "Leave out the odd ones" if purpose == "style" else "Curate to the best 30-60"
    warnings = {
        f"Few images ({num_images}): they burn in early. Add different views, or compare "
        "early checkpoints": 0 < num_images < FEW_IMAGES,
        f"{num_images} images, more than {MANY_IMAGES}. {curate}": num_images > MANY_IMAGES,
        f"Without a caption: {missing_captions} of {num_images} images": missing_captions > 0,
        f"Without the trigger word: {missing_trigger} of {num_images} captions": (
            missing_trigger > 0
        ),
        caption_help(purpose): missing_captions > 0 or missing_trigger > 0,
        f"{num_sizes} image sizes: each image trains in the aspect-ratio bucket nearest "
        "to it, with its edges cropped": num_sizes > 1,
        f"Smaller than the training resolution: {num_small} of {num_images} images. Use bigger "
        "ones, or lower the resolution": num_small > 0,
        f"Duplicates: {duplicates} of {num_images} images. Remove them, or they weigh double": (
            duplicates > 0
        ),
    }
    return tuple(text for text, applies in warnings.items() if applies)


def caption_help(purpose: str = "character") -> str:
    """Return how to caption for a purpose, in a few sentences."""
    if purpose == "character":
        return (
            "Put one rare trigger word in every caption, then a few short facts of identity. "
            "Leave out scene and style, which should stay free, and most clothes and "
            "expressions, which get locked in"
        )
    if purpose == "style":
        return (
            "Put one rare trigger word in every caption, then describe what the picture shows, "
            "not how it is drawn: what no caption names is learned as the style"
        )
    return (
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
