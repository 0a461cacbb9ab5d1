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
        encode: Turns captions into prompts.
        text_identity: What tells these text encoders from others.
        folder: Where to keep files; None keeps prompts in memory.

    Attributes:
        num_encoded: Captions encoded so far.
    """

    def __init__(
        self, encode: EncodePrompts, text_identity: Mapping[str, str], folder: Path | None
    ) -> None:
        self._encode = encode
        self._identity = dict(text_identity)
        self._store = TensorStore(folder)
        self.num_encoded = 0

    def prepare(self, caption: str) -> None:
        """Make sure the caption's prompt is cached.

        One caption at a time: batched encoding rounds differently, and what a prompt is must not
        depend on which others were already cached.
        """
        key = self._key(caption)
        if not self._store.shapes(key):
            [prompt] = self._encode([caption])
            self.num_encoded += 1
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
