"""What the denoiser is told a picture shows: its name, now and then otherwise."""

import random

import torch
from torch import Tensor

from trustopt.hosts.layouts.text import ClipLayout
from trustopt.hosts.text import clip_chunks
from trustopt.hosts.tiny.specs import VOCABULARY
from trustopt.hosts.tiny.tokenizer import NUM_RESERVED, word_ids

EMPTY = 0.1
"""Share of captions left empty, for classifier-free guidance."""
OTHER_NAME = 0.25
STRANGE_WORD = 0.15
"""Share that begins with a word never learned, as a trigger word is before a LoRA knows it."""


def caption_ids(names: list[list[str]], draw: random.Random) -> list[list[int]]:
    """Return the token ids of one caption a picture, drawn from its names."""
    return [_ids(options, draw) for options in names]


def _ids(options: list[str], draw: random.Random) -> list[int]:
    if draw.random() < EMPTY:
        return []
    other = len(options) > 1 and draw.random() < OTHER_NAME
    ids = word_ids(draw.choice(options[1:]) if other else options[0])
    if draw.random() < STRANGE_WORD:
        return [draw.randrange(NUM_RESERVED, VOCABULARY - 2), *word_ids(","), *ids]
    return ids


def token_rows(captions: list[list[int]], layout: ClipLayout) -> Tensor:
    """Return ids ``(B, 77)`` with an encoder's marks and padding."""
    return torch.tensor([clip_chunks(ids, layout)[0] for ids in captions])
