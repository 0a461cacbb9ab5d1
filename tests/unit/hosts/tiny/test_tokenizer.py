"""The hashing tokenizer: stable ids, kept commas, free reserved ids."""

from hypothesis import given
from hypothesis import strategies as st

from trustopt.hosts.tiny.specs import VOCABULARY
from trustopt.hosts.tiny.tokenizer import NUM_RESERVED, word_ids


def test_ids_are_stable():
    assert word_ids("cat face") == [8009, 410]


def test_case_is_ignored_and_commas_are_tokens():
    cat, comma, dog = word_ids("Cat, dog")
    assert [cat, comma, dog] == word_ids("cat,DOG")
    assert len({cat, comma, dog}) == 3


def test_an_empty_text_has_no_words():
    assert word_ids(" \n") == []


@given(st.text())
def test_ids_stay_between_the_marks(text):
    assert all(NUM_RESERVED <= i < VOCABULARY - 2 for i in word_ids(text))
