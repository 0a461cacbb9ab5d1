"""Captions as the text encoders give them: each text encoded once, cached by text and encoders."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ..host import Prompt
from .store import TensorStore

EncodePrompts = Callable[[Sequence[str]], list[Prompt]]
"""``Host.encode_prompts``."""

FORMAT = "prompt 1"


class PromptCache:
    """Prompts by caption and text encoders, in the dtype the host gives.

    Args:
        text_identity: What tells these text encoders from others.
        folder: Where to keep files; None keeps prompts in memory.
    """

    def __init__(self, text_identity: Mapping[str, str], folder: Path | None) -> None:
        self._identity = dict(text_identity)
        self._store = TensorStore(folder)

    def prepare(self, encode: EncodePrompts, caption: str) -> None:
        """Make sure the caption's prompt is cached.

        One caption at a time: batches round differently, and what a prompt is must not depend on
        which others were already cached.

        Args:
            encode: Turns captions into prompts; called only for what is not cached.
            caption: May be empty.

        Raises:
            ValueError: If the encoders give something that is not finite.
        """
        key = self._key(caption)
        if not self._store.shapes(key):
            [prompt] = encode([caption])
            if not all(bool(tensor.isfinite().all()) for tensor in prompt.values()):
                raise ValueError(
                    f"the text encoders give values that are not finite for {caption!r}: they "
                    "overflow in half precision; run them in bf16 or float32 (ComfyUI: start it "
                    "with --fp32-text-enc)"
                )
            self._store.save(key, prompt, {"caption": caption, "format": FORMAT})

    def load(self, caption: str) -> Prompt:
        """Return the prompt of a caption that ``prepare`` cached.

        Raises:
            ValueError: If its file vanished meanwhile.
        """
        return self._store.load(self._key(caption))

    def _key(self, caption: str) -> str:
        parts = {"format": FORMAT, "caption": caption, "text_encoders": self._identity}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:40]
