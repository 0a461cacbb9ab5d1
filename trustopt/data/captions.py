"""Caption texts: reading them in any encoding, the trigger word, shuffling and dropping tags.

A tag is what stands between commas. All changes are pure functions of a ``torch.Generator``.
"""

import hashlib
import re
from pathlib import Path

import torch

from ..config import DataConfig

PLACEHOLDER = "[trigger]"
"""Replaced by the trigger word wherever it stands in a caption."""

LONGEST = 16_384
"""Bytes read of a caption file; text encoders take 77 to 512 tokens of it."""

MOSTLY_WIDE = 0.3
"""Above this share of non-ASCII bytes a text without Unicode marks is East Asian, not Latin."""


def read_caption(path: Path) -> tuple[str, str]:
    """Return a caption file's text on one line, and a remark if it was cut or its encoding guessed.

    Raises:
        OSError: If the file cannot be read.
    """
    with path.open("rb") as file:
        data = file.read(LONGEST + 1)
    remarks = []
    if len(data) > LONGEST:
        data = data[: max(data.rfind(b" "), data.rfind(b"\n"), 0)]
        remarks.append(f"longer than {LONGEST} bytes: its start is used")
    text, encoding = _decode(data)
    if encoding != "utf-8":
        remarks.append(f"not UTF-8: read as {encoding}; save it as UTF-8")
    return one_line(text), ", ".join(remarks)


def one_line(text: str) -> str:
    """Return a caption as training takes it: on one line, single spaces, nothing unprintable."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def with_trigger(caption: str, trigger_word: str) -> str:
    """Return the caption with the trigger word in it: at ``[trigger]``, else in front.

    A caption that already contains the word, whatever its case, stays as it is.
    """
    if PLACEHOLDER in caption:
        return fill_trigger(caption, trigger_word)
    if not trigger_word or has_trigger(caption, trigger_word):
        return caption
    return f"{trigger_word}, {caption}" if caption else trigger_word


def fill_trigger(text: str, trigger_word: str) -> str:
    """Return a text with the trigger word at ``[trigger]``; without a word, nothing stands there.

    A text without the placeholder stays as it is.
    """
    if PLACEHOLDER not in text:
        return text
    filled = text.replace(PLACEHOLDER, trigger_word)
    return filled if trigger_word else " ".join(", ".join(tags(filled)).split())


def has_trigger(caption: str, trigger_word: str) -> bool:
    """Tell whether the trigger word stands in the caption as a word of its own."""
    return _as_word(trigger_word).search(caption) is not None


def with_class_word(caption: str, trigger_word: str, class_word: str) -> str:
    """Return the caption with the class word wherever ``with_trigger`` has the trigger word."""
    return _as_word(trigger_word).sub(lambda _: class_word, with_trigger(caption, trigger_word))


def _as_word(trigger_word: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(trigger_word)}(?!\w)", re.IGNORECASE)


def tags(caption: str) -> list[str]:
    """Split a caption at its commas; empty tags vanish."""
    return [tag.strip() for tag in caption.split(",") if tag.strip()]


def shuffle_tags(caption: str, generator: torch.Generator, *, keep_tokens: int = 0) -> str:
    """Return the caption with its tags in random order, the first ``keep_tokens`` in place."""
    found = tags(caption)
    rest = found[keep_tokens:]
    order = torch.randperm(len(rest), generator=generator).tolist()
    return ", ".join(found[:keep_tokens] + [rest[index] for index in order])


def drop_tags(
    caption: str,
    probability: float,
    generator: torch.Generator,
    *,
    keep_tokens: int = 0,
    trigger_word: str = "",
) -> str:
    """Return the caption without some of its tags, each dropped with ``probability``.

    The first ``keep_tokens`` tags and the one with the trigger word always stay.
    """
    found = tags(caption)
    draws = torch.rand(len(found), generator=generator).tolist()
    kept = [
        tag
        for index, (tag, draw) in enumerate(zip(found, draws, strict=True))
        if index < keep_tokens
        or draw >= probability
        or (trigger_word and has_trigger(tag, trigger_word))
    ]
    return ", ".join(kept)


def caption_variants(caption: str, config: DataConfig, trigger_word: str = "") -> tuple[str, ...]:
    """Return the texts that stand for one caption in training; the first is the caption itself.

    With shuffling or tag dropout there are up to ``config.caption_variants`` different ones. They
    depend on nothing but the caption and the settings, so cached encodings serve every later run.
    """
    if not (config.shuffle_tags or config.tag_dropout) or len(tags(caption)) < 2:
        return (caption,)
    seed = int.from_bytes(hashlib.sha256(caption.encode()).digest()[:7], "big")
    generator = torch.Generator().manual_seed(seed)
    variants = [caption]
    for _ in range(config.caption_variants - 1):
        variant = drop_tags(
            caption,
            config.tag_dropout,
            generator,
            keep_tokens=config.keep_tokens,
            trigger_word=trigger_word,
        )
        if config.shuffle_tags:
            variant = shuffle_tags(variant, generator, keep_tokens=config.keep_tokens)
        variants.append(variant)
    return tuple(variants)


def _decode(data: bytes) -> tuple[str, str]:
    """Return the text and the encoding's name; every byte sequence is readable as latin-1."""
    for encoding in _candidates(data):
        text = data.decode(encoding, errors="replace")
        if "\ufffd" not in text:
            return text, "utf-8" if encoding == "utf-8-sig" else encoding
    return data.decode("latin-1"), "latin-1"


def _candidates(data: bytes) -> list[str]:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return ["utf-16"]
    if b"\0" in data:  # no text has NUL characters, but UTF-16 of Latin text has every other byte 0
        return ["utf-16-le" if data[1:2] == b"\0" else "utf-16-be"]
    wide = sum(byte >= 0x80 for byte in data) > MOSTLY_WIDE * len(data)
    return ["utf-8-sig", *(_east_asian(data) if wide else []), "cp1252"]


def _east_asian(data: bytes) -> list[str]:
    # GBK text read as Japanese shows as half-width katakana, which real captions hardly use.
    japanese = data.decode("cp932", errors="replace")
    odd = sum("\uff61" <= c <= "\uff9f" or c == "\ufffd" for c in japanese)
    return ["gb18030", "cp932"] if odd > 0.2 * len(japanese) else ["cp932", "gb18030"]
