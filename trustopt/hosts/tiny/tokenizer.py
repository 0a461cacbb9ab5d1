"""The tiny models' tokenizer: a word's id is its hash, so no vocabulary file is needed."""

import hashlib
import re

from .specs import VOCABULARY

NUM_RESERVED = 2
"""Ids 0 (padding) and 1 (T5's end mark) stay free at the front, CLIP's two marks at the back."""

_WORDS = re.compile(r"[^\W_]+|[^\w\s]|_")


def word_ids(text: str) -> list[int]:
    """Return one id per word or punctuation mark, without begin and end marks.

    Case is ignored; commas are tokens of their own. The id is the first eight bytes of the
    word's BLAKE2b hash modulo the free ids: the same on every machine and in both hosts.
    """
    return [_word_id(word) for word in _WORDS.findall(text.lower())]


def _word_id(word: str) -> int:
    digest = hashlib.blake2b(word.encode(), digest_size=8).digest()
    return NUM_RESERVED + int.from_bytes(digest, "big") % (VOCABULARY - 2 - NUM_RESERVED)
