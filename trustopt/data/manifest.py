"""A list of a set's pictures by content, to see later, or elsewhere, whether they are the same."""

import json
from pathlib import Path
from typing import Any

from .samples import ImageSet, Sample

KEYS = {
    "sha256": "content",
    "mask": "mask",
    "caption": "caption",
    "repeats": "number of repeats",
    "regularisation": "place among the regularisation pictures",
}
"""What is listed of a picture -> what it is called."""


def write_manifest(images: ImageSet, path: Path) -> None:
    """Write a set's trigger word, and name, content, caption, mask and repeats of its pictures.

    Raises:
        OSError: If a picture cannot be read or the file cannot be written.
    """
    listing = {"trigger_word": images.trigger_word, "pictures": [_entry(s) for s in images.samples]}
    path.write_text(json.dumps(listing, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def check_manifest(images: ImageSet, path: Path) -> None:
    """Check that a set is the one a manifest lists.

    Raises:
        ValueError: If not, or the manifest cannot be read; the message names the first difference
            and says how to train without the manifest.
    """
    remedy = "restore it, or remove manifest from [images] to train on what is there now"
    try:
        listing = json.loads(path.read_text(encoding="utf-8"))
        listed = [dict(entry) for entry in listing["pictures"]]
        word = listing["trigger_word"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"the manifest {path} cannot be read ({error!r}): {remedy}") from error
    if images.trigger_word != word:
        raise ValueError(
            f"the trigger word is {images.trigger_word!r}, in {path.name} it is {word!r}: {remedy}"
        )
    if len(images.samples) != len(listed):
        there = {sample.name for sample in images.samples}
        gone = [e.get("name") for e in listed if e.get("name") not in there]
        raise ValueError(
            f"{images.name} has {len(images.samples)} pictures, {path.name} lists {len(listed)}"
            + (f" ({gone[0]} is gone)" if gone else "")
            + f": {remedy}"
        )
    for sample, entry in zip(images.samples, listed, strict=True):
        for key, value in _entry(sample).items():
            if key in KEYS and entry.get(key) != value:
                raise ValueError(
                    f"{sample.name} has another {KEYS[key]} than in {path.name}: {remedy}"
                )


def _entry(sample: Sample) -> dict[str, Any]:
    return {
        "name": sample.name,
        "sha256": sample.digest,
        "width": sample.width,
        "height": sample.height,
        "caption": sample.caption,
        "mask": "alpha" if isinstance(sample.mask, str) else sample.mask_digest,
        "repeats": sample.repeats,
        "regularisation": sample.is_regularisation,
    }
