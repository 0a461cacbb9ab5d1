"""Captions to prompts with the text encoders of transformers."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..host import Prompt
from .layouts.text import ClipLayout, T5Layout

Tokenize = Callable[[str], list[int]]
"""A text's token ids without begin, end and padding."""


class ClipEncoder:
    """A CLIP text encoder.

    Args:
        model: transformers' ``CLIPTextModel`` or ``CLIPTextModelWithProjection``.
        layout: Its shape and special ids.
        tokenize: Splits a text.
    """

    def __init__(self, model: nn.Module, layout: ClipLayout, tokenize: Tokenize) -> None:
        self.model = model
        self.layout = layout
        self.tokenize = tokenize

    def encode(self, caption: str) -> tuple[Tensor, Tensor]:
        """Return the penultimate layer's states ``(77 n, D)`` and the pooled text ``(P,)``.

        Texts of more than 75 tokens are read in n chunks; the pooled text is the first's.
        """
        ids = torch.tensor(clip_chunks(self.tokenize(caption), self.layout))
        output: Any = self.model(ids.to(_device(self.model)), output_hidden_states=True)
        pooled = output.text_embeds if self.layout.projection else output.pooler_output
        return output.hidden_states[-2].flatten(0, 1), pooled[0]


class T5Encoder:
    """A T5 text encoder.

    Args:
        model: transformers' ``T5EncoderModel``.
        layout: Its shape, special ids and the length of its texts.
        tokenize: Splits a text.
    """

    def __init__(self, model: nn.Module, layout: T5Layout, tokenize: Tokenize) -> None:
        self.model = model
        self.layout = layout
        self.tokenize = tokenize

    def encode(self, caption: str) -> Tensor:
        """Return the last layer's states, ``(tokens, D)``.

        Padding is encoded and attended to like words, as in FLUX's own training.
        """
        ids = torch.tensor([t5_tokens(self.tokenize(caption), self.layout)])
        output: Any = self.model(ids.to(_device(self.model)))
        return output.last_hidden_state[0]


class SDXLText:
    """SDXL's pair of encoders: contexts side by side, pooled text of the second."""

    def __init__(self, clip_l: ClipEncoder, clip_g: ClipEncoder) -> None:
        self.clip_l = clip_l
        self.clip_g = clip_g
        self.models: dict[str, nn.Module] = {"te1": clip_l.model, "te2": clip_g.model}
        self.trainable = ("te1", "te2")

    def encode(self, caption: str) -> Prompt:
        """Return one caption's prompt, on the encoders' device."""
        context_l, _ = self.clip_l.encode(caption)
        context_g, pooled = self.clip_g.encode(caption)
        length = min(len(context_l), len(context_g))
        context = torch.cat((context_l[:length], context_g[:length]), -1)
        return {"context": context, "pooled": pooled}


class FluxText:
    """FLUX's pair of encoders: context of T5, pooled text of CLIP-L."""

    def __init__(self, clip_l: ClipEncoder, t5xxl: T5Encoder) -> None:
        self.clip_l = clip_l
        self.t5xxl = t5xxl
        self.models: dict[str, nn.Module] = {"te1": clip_l.model, "te2": t5xxl.model}
        self.trainable = ()

    def encode(self, caption: str) -> Prompt:
        """Return one caption's prompt, on the encoders' device."""
        _, pooled = self.clip_l.encode(caption)
        return {"context": self.t5xxl.encode(caption), "pooled": pooled}


def clip_chunks(ids: list[int], layout: ClipLayout) -> list[list[int]]:
    """Return the text in rows of 77 ids, each with begin and end marks; at least one row."""
    room = layout.positions - 2
    rows = []
    for start in range(0, max(len(ids), 1), room):
        row = [layout.begin, *ids[start : start + room], layout.end]
        rows.append(row + [layout.pad] * (layout.positions - len(row)))
    return rows


def t5_tokens(ids: list[int], layout: T5Layout) -> list[int]:
    """Return the text with its end mark, cut or filled up to the layout's length."""
    row = [*ids[: layout.tokens - 1], layout.end]
    return row + [layout.pad] * (layout.tokens - len(row))


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
