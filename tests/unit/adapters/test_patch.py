"""Mirrors trustopt/adapters/patch.py and blocks.py: values worked out by hand."""

import pytest
import torch

from trustopt.adapters.blocks import block_norms, block_of, in_order
from trustopt.adapters.patch import LayerPatch, cayley, delta, merge, norm


def lora(alpha: float | None = 4.0, **more: torch.Tensor) -> LayerPatch:
    factors = {
        "lora_down.weight": torch.tensor([[1.0, 2.0], [0.0, 1.0]]),
        "lora_up.weight": torch.tensor([[1.0, 0.0], [3.0, 1.0]]),
    }
    return LayerPatch("lora", factors | more, alpha)


def test_lora_by_hand() -> None:
    patch = lora()
    assert (patch.rank, patch.scale) == (2, 2.0)
    expected = torch.tensor([[2.0, 4.0], [6.0, 14.0]])  # 4 / 2 times up @ down
    torch.testing.assert_close(delta(patch), expected)
    torch.testing.assert_close(merge(patch, torch.ones(2, 2)), expected + 1.0)
    assert norm(patch) == pytest.approx(float(expected.norm()))
    assert lora(alpha=None).scale == 1.0


def test_loha_by_hand() -> None:
    factors = {
        "hada_w1_a": torch.tensor([[1.0], [2.0]]),
        "hada_w1_b": torch.tensor([[3.0, 1.0]]),
        "hada_w2_a": torch.tensor([[1.0], [1.0]]),
        "hada_w2_b": torch.tensor([[2.0, 5.0]]),
    }
    patch = LayerPatch("loha", factors, 0.5)
    torch.testing.assert_close(delta(patch), torch.tensor([[3.0, 2.5], [6.0, 5.0]]))
    assert norm(patch) == pytest.approx((9 + 6.25 + 36 + 25) ** 0.5)


def test_lokr_by_hand_and_its_scale() -> None:
    first, second = torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0], [3.0]])
    whole = LayerPatch("lokr", {"lokr_w1": first, "lokr_w2": second}, 8.0)
    torch.testing.assert_close(delta(whole), torch.tensor([[1.0, 2.0], [3.0, 6.0]]))
    assert (whole.rank, whole.scale) == (None, 1.0)  # loaders scale products of rank r only
    product = {"lokr_w1": first, "lokr_w2_a": second, "lokr_w2_b": torch.tensor([[1.0]])}
    scaled = LayerPatch("lokr", product, 8.0)
    torch.testing.assert_close(delta(scaled), 8.0 * delta(whole))
    assert norm(scaled) == pytest.approx(float(delta(scaled).norm()))
    assert scaled.size() == (2, 2)


def test_lokr_of_a_convolution_keeps_the_kernel_together() -> None:
    first = torch.tensor([[2.0], [1.0]])
    second = torch.arange(9.0).reshape(1, 1, 3, 3)
    patch = LayerPatch("lokr", {"lokr_w1": first, "lokr_w2": second})
    expected = torch.cat([2 * second, second])
    torch.testing.assert_close(delta(patch, (2, 1, 3, 3)), expected)
    flat = {"lokr_w1": first, "lokr_w2_a": torch.ones(1, 1), "lokr_w2_b": second.reshape(1, 9)}
    torch.testing.assert_close(delta(LayerPatch("lokr", flat), (2, 1, 3, 3)), expected)


def test_oft_is_a_rotation_of_outputs() -> None:
    blocks = torch.zeros(1, 2, 2)
    blocks[0, 0, 1] = 1.0  # Q = [[0, 1], [-1, 0]]: (I + Q)(I - Q)^-1 is a quarter turn
    patch = LayerPatch("oft", {"oft_blocks": blocks}, 0.0)
    torch.testing.assert_close(cayley(patch)[0], torch.tensor([[0.0, 1.0], [-1.0, 0.0]]))
    weight = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    torch.testing.assert_close(merge(patch, weight), torch.tensor([[-3.0, -4.0], [1.0, 2.0]]))
    bounded = LayerPatch("oft", {"oft_blocks": blocks}, 0.1)
    assert 0 < norm(bounded) < 0.2 < norm(patch)
    with pytest.raises(ValueError, match="rotates the base weight"):
        delta(patch)


def test_dora_scales_columns_to_its_magnitudes() -> None:
    patch = lora(dora_scale=torch.tensor([[3.0, 5.0]]))
    merged = merge(patch, torch.ones(2, 2))
    torch.testing.assert_close(merged.norm(dim=0), torch.tensor([3.0, 5.0]))
    plain = merge(lora(), torch.ones(2, 2))
    cosine = torch.nn.functional.cosine_similarity(merged, plain, dim=0)
    torch.testing.assert_close(cosine, torch.ones(2))


def test_dora_over_outputs_is_read_as_comfyui_does() -> None:
    weight = torch.tensor([[3.0, 4.0], [0.0, 2.0]])  # rows of norm 5 and 2
    patch = lora(dora_scale=torch.tensor([[10.0], [1.0]]))
    expected = (weight + delta(lora())) * torch.tensor([[2.0], [0.5]])
    torch.testing.assert_close(merge(patch, weight), expected)


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("input_blocks.4.1.proj_in", "input_blocks.4"),
        ("middle_block.1.proj_in", "middle_block"),
        ("single_blocks.12.linear1", "single_blocks.12"),
        ("te1.text_model.encoder.layers.3.mlp.fc1", "te1.3"),
        ("img_in", "img_in"),
    ],
)
def test_blocks(name: str, block: str) -> None:
    assert block_of(name) == block


def test_blocks_add_up_and_come_in_order() -> None:
    names = ["output_blocks.0.1.a", "middle_block.1.a", "input_blocks.10.1.a", "input_blocks.4.1.a"]
    names += ["te1.text_model.encoder.layers.0.mlp.fc1", "input_blocks.4.1.b"]
    norms = block_norms(dict.fromkeys(names, lora()))
    assert list(norms) == [
        "input_blocks.4",
        "input_blocks.10",
        "middle_block",
        "output_blocks.0",
        "te1.0",
    ]
    assert norms["input_blocks.4"] == pytest.approx(2**0.5 * norm(lora()))
    assert in_order(["single_blocks.2", "double_blocks.10", "double_blocks.9"]) == [
        "double_blocks.9",
        "double_blocks.10",
        "single_blocks.2",
    ]
