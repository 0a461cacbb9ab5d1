"""Finds the tokenizers of CLIP and T5 on this machine; nothing is downloaded."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .layouts.text import ClipLayout, T5Layout
from .text import Tokenize
from .tiny.specs import VOCABULARY
from .tiny.tokenizer import word_ids

_PLACES = {  # where a folder may hold them: a diffusers model's, or ComfyUI's ``comfy``
    "CLIP": ("tokenizer", "sd1_tokenizer", "comfy/sd1_tokenizer"),
    "T5": ("tokenizer_2", "text_encoders/t5_tokenizer", "comfy/text_encoders/t5_tokenizer"),
}
_CACHED = {  # names under which other programs may have put them into Hugging Face's cache
    "CLIP": ("openai/clip-vit-large-patch14",),
    "T5": ("google/t5-v1_1-xxl", "google-t5/t5-base"),
}
T5_SPARE_WORDS = 128
"""T5's embedding has rows beyond its tokenizer's words, to make the number a round one."""


def find_clip_tokenizer(layout: ClipLayout, folder: Path | None) -> Tokenize:
    """Return CLIP's tokenizer, from ``folder`` or else from Hugging Face's cache.

    Raises:
        ValueError: If neither has it.
    """
    if layout.vocabulary == VOCABULARY:
        return word_ids
    from transformers import CLIPTokenizer

    return _find(CLIPTokenizer, "CLIP", folder, layout.vocabulary)


def find_t5_tokenizer(layout: T5Layout, folder: Path | None) -> Tokenize:
    """Return T5's tokenizer, from ``folder`` or else from Hugging Face's cache.

    Raises:
        ValueError: If neither has it.
    """
    if layout.vocabulary == VOCABULARY:
        return word_ids
    from transformers import T5TokenizerFast

    return _find(T5TokenizerFast, "T5", folder, layout.vocabulary - T5_SPARE_WORDS)


def _find(cls: Any, kind: str, folder: Path | None, words: int) -> Tokenize:
    """Return the first tokenizer that knows at least ``words`` words."""
    for source in _sources(kind, folder):
        try:
            tokenizer = cls.from_pretrained(source, local_files_only=True)
        except (OSError, ValueError, TypeError):
            continue  # not there; transformers has no narrower error for it
        # Where files are missing, transformers 5 makes a tokenizer without words and says nothing.
        if len(tokenizer) >= words:
            return lambda text: tokenizer(text, add_special_tokens=False, verbose=False)[
                "input_ids"
            ]
    where = f"in {folder}" if folder else "in Hugging Face's cache"
    raise ValueError(
        f"no {kind} tokenizer {where}: single-file checkpoints hold none, so name a folder that "
        f"does with tokenizers=, such as ComfyUI's own folder or a diffusers model of this family"
    )


def _sources(kind: str, folder: Path | None) -> Iterable[str]:
    if folder is None:
        return _CACHED[kind]
    places = [folder / place for place in _PLACES[kind]]
    return [str(place) for place in places if place.is_dir()]
