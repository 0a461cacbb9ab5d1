import pytest
import torch

from trustopt.config import DataConfig
from trustopt.data.captions import (
    caption_variants,
    drop_tags,
    fill_trigger,
    has_trigger,
    read_caption,
    shuffle_tags,
    tags,
    with_class_word,
    with_trigger,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("caption", "trigger_word", "expected"),
    [
        ("a cat", "sks", "sks, a cat"),
        ("", "sks", "sks"),
        ("a cat", "", "a cat"),
        ("photo of [trigger], smiling", "sks", "photo of sks, smiling"),
        ("[trigger], smiling", "", "smiling"),
        ("a SKS cat", "sks", "a SKS cat"),
        ("asksome cat", "sks", "sks, asksome cat"),
        ("a (sks) cat", "sks", "a (sks) cat"),
        ("two words here", "two words", "two words here"),
    ],
)
def test_trigger_word_is_put_in_once(caption, trigger_word, expected):
    assert with_trigger(caption, trigger_word) == expected


def test_a_trigger_word_may_hold_signs_of_regular_expressions():
    assert has_trigger("a c++ (x) cat", "c++")
    assert not has_trigger("a cc cat", "c+")


def test_shuffle_keeps_the_first_tags_and_loses_none():
    caption = "sks, woman, a, b, c, d, e"

    shuffled = shuffle_tags(caption, generator(), keep_tokens=2)

    assert shuffled != caption
    assert tags(shuffled)[:2] == ["sks", "woman"]
    assert sorted(tags(shuffled)) == sorted(tags(caption))
    assert shuffled == shuffle_tags(caption, generator(), keep_tokens=2)


def test_drop_spares_the_first_tags_and_the_trigger_word():
    caption = "first, a, b, sks person, c"

    gone = drop_tags(caption, 1.0, generator(), keep_tokens=1, trigger_word="sks")

    assert gone == "first, sks person"
    assert drop_tags(caption, 0.0, generator()) == caption


def test_drop_rate_is_the_probability():
    caption = ", ".join(str(i) for i in range(4000))

    kept = len(tags(drop_tags(caption, 0.25, generator())))

    assert (
        abs(kept - 3000) < 110
    )  # 4 standard deviations of a binomial: sqrt(4000 * .25 * .75) = 27


def test_variants_are_the_caption_alone_without_shuffle_or_dropout():
    assert caption_variants("a, b, c", DataConfig()) == ("a, b, c",)
    assert caption_variants("one tag", DataConfig(shuffle_tags=True)) == ("one tag",)


def test_variants_start_with_the_caption_and_repeat_in_every_run():
    config = DataConfig(shuffle_tags=True, tag_dropout=0.3, caption_variants=5)

    variants = caption_variants("sks, a, b, c, d, e", config, "sks")

    assert len(variants) == 5
    assert variants[0] == "sks, a, b, c, d, e"
    assert len(set(variants)) == 5
    assert all(tags(v)[0] == "sks" and set(tags(v)) <= set("abcde") | {"sks"} for v in variants)
    assert variants == caption_variants("sks, a, b, c, d, e", config, "sks")


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_its_mark_is_recognised(tmp_path, encoding):
    path = tmp_path / "a.txt"
    path.write_bytes("a red cat".encode(encoding))

    assert read_caption(path) == ("a red cat", f"not UTF-8: read as {encoding}; save it as UTF-8")


def test_any_bytes_are_read(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(bytes(range(1, 256)))

    text, remark = read_caption(path)

    assert "ABC" in text
    assert "\x07" not in text
    assert "not UTF-8" in remark


@pytest.mark.parametrize(
    ("text", "word", "expected"),
    [
        ("a photo of [trigger] in snow", "sks", "a photo of sks in snow"),
        ("a photo of [trigger] in snow", "", "a photo of in snow"),
        ("[trigger], in snow", "", "in snow"),
        ("[trigger]", "", ""),
        ("snow,  rain", "sks", "snow,  rain"),  # not put in front, unlike a caption's
    ],
)
def test_a_prompt_has_the_trigger_word_where_it_says_so(text, word, expected) -> None:
    assert fill_trigger(text, word) == expected


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("zxq cat on a sofa", "cat on a sofa"),
        ("a photo of ZXQ CAT", "a photo of cat"),
        ("a [trigger] asleep", "a cat asleep"),
        ("on a sofa", "cat, on a sofa"),
        ("", "cat"),
        ("zxq cats", "cat, zxq cats"),  # another word: the trigger word was put in front
    ],
)
def test_the_class_word_takes_the_trigger_words_place(caption, expected):
    assert with_class_word(caption, "zxq cat", "cat") == expected
