import pytest
import torch

from trustopt.data.prompts import PromptCache


def test_each_caption_is_encoded_once_and_alone(host, tmp_path):
    cache = PromptCache(host.identity(), tmp_path)

    for caption in ("a cat", "", "a cat"):
        cache.prepare(host.encode_prompts, caption)

    assert host.encoded_captions == ["a cat", ""]
    prompt = cache.load("a cat")
    assert prompt["context"].dtype == torch.bfloat16
    assert torch.equal(prompt["context"], torch.full((2, 3), 5.0, dtype=torch.bfloat16))
    assert cache.load("")["pooled"].shape == (4,)


def test_the_next_run_with_the_same_encoders_encodes_nothing(host, other_host, tmp_path):
    PromptCache(host.identity(), tmp_path).prepare(host.encode_prompts, "a cat")

    PromptCache(host.identity(), tmp_path).prepare(host.encode_prompts, "a cat")
    PromptCache(other_host.identity(), tmp_path).prepare(other_host.encode_prompts, "a cat")

    assert host.encoded_captions == ["a cat"]
    assert other_host.encoded_captions == ["a cat"]


def test_memory_serves_without_a_folder(host):
    cache = PromptCache(host.identity(), None)

    cache.prepare(host.encode_prompts, "a cat")
    cache.prepare(host.encode_prompts, "a cat")

    assert host.encoded_captions == ["a cat"]
    assert set(cache.load("a cat")) == {"context", "pooled"}


def test_text_encoders_that_overflow_are_named_and_nothing_is_kept(host, tmp_path):
    def overflow(captions):
        [prompt] = host.encode_prompts(captions)
        return [{**prompt, "pooled": prompt["pooled"] * float("nan")}]

    with pytest.raises(ValueError, match=r"^the text encoders give values .* for 'a cat': "):
        PromptCache(host.identity(), tmp_path).prepare(overflow, "a cat")
    assert not list(tmp_path.glob("*"))
