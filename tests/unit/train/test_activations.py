"""Mirrors trustopt/train/activations.py; tests/comfy/test_peak_memory.py counts at full size."""

import pytest
import torch

from trustopt.adapters import AdapterSet, build_adapters
from trustopt.config import AdapterConfig
from trustopt.host import LayerShape
from trustopt.train.activations import (
    ADAPTED_INPUT,
    MODULATED,
    OUTPUT,
    RECOMPUTED,
    Workload,
    activation_bytes,
    token_counts,
)

SDXL_NAMES = {  # with what SDXL maps at 1024 px, whose latents are 128 x 128
    "time_embed.0": 1,
    "input_blocks.0.0": 16384,
    "input_blocks.2.0.in_layers.2": 16384,
    "input_blocks.2.0.emb_layers.1": 1,
    "input_blocks.3.0.op": 4096,
    "input_blocks.4.1.transformer_blocks.0.attn1.to_q": 4096,
    "input_blocks.4.1.transformer_blocks.0.attn2.to_q": 4096,
    "input_blocks.4.1.transformer_blocks.0.attn2.to_k": 77,
    "input_blocks.6.0.op": 1024,
    "input_blocks.8.1.proj_in": 1024,
    "middle_block.1.transformer_blocks.9.ff.net.2": 1024,
    "output_blocks.2.0.out_layers.3": 1024,
    "output_blocks.2.2.conv": 4096,
    "output_blocks.3.1.proj_in": 4096,
    "output_blocks.5.2.conv": 16384,
    "output_blocks.8.0.skip_connection": 16384,
    "out.2": 16384,
    "te1.text_model.encoder.layers.0.mlp.fc1": 77,
}
FLUX_NAMES = {
    "img_in": 4096,
    "txt_in": 512,
    "time_in.in_layer": 1,
    "guidance_in.out_layer": 1,
    "double_blocks.0.img_mod.lin": 1,
    "double_blocks.18.img_attn.qkv": 4096,
    "double_blocks.18.txt_mlp.2": 512,
    "single_blocks.37.linear1": 4608,
    "single_blocks.37.modulation.lin": 1,
    "final_layer.linear": 4096,
}


@pytest.mark.parametrize(("family", "wanted"), [("sdxl", SDXL_NAMES), ("flux", FLUX_NAMES)])
def test_rows_of_each_layer(family, wanted) -> None:
    assert token_counts(wanted, family, 128 * 128) == wanted


def linear(inputs: int, outputs: int) -> LayerShape:
    return LayerShape(kind="linear", in_features=inputs, out_features=outputs)


def adapted(layers: dict[str, LayerShape], **settings) -> AdapterSet:
    config = AdapterConfig(**{"rank": 2, **settings})
    return build_adapters(layers, config, torch.Generator(), device="meta")


BLOCKS = {
    f"single_blocks.{i}.{name}": shape
    for i in range(3)
    for name, shape in {"linear1": linear(8, 56), "linear2": linear(40, 8)}.items()
}
ROWS = 2 * (16 + 512)  # of a batch of 2, whose pictures are 8 x 8 latents


def work(itemsize: int = 4, batch: int = 2) -> Workload:
    return Workload(batch=batch, latent_area=64, itemsize=itemsize)


def test_sum_over_layers_and_a_walk_over_recomputed_blocks() -> None:
    plain, recomputed = activation_bytes(BLOCKS, adapted(BLOCKS), "flux", work())

    block = ROWS * 4 * (ADAPTED_INPUT * (8 + 40) + OUTPUT["flux"] * (56 + 8))
    assert plain == pytest.approx(3 * block)
    # All three blocks' inputs are kept when the last one runs again.
    assert recomputed == pytest.approx(3 * ROWS * 4 * 8 + RECOMPUTED * block)
    assert recomputed < plain


def test_a_layer_without_an_adapter_keeps_no_input() -> None:
    some = {name: BLOCKS[name] for name in BLOCKS if "linear1" in name}
    plain, _ = activation_bytes(BLOCKS, adapted(some), "flux", work())
    without = 3 * ROWS * 4 * ADAPTED_INPUT * 40
    assert plain == pytest.approx(
        activation_bytes(BLOCKS, adapted(BLOCKS), "flux", work())[0] - without
    )


def test_half_precision_halves_activations_and_keeps_half_weights() -> None:
    full, _ = activation_bytes(BLOCKS, adapted(BLOCKS), "flux", work(4))
    half, _ = activation_bytes(BLOCKS, adapted(BLOCKS), "flux", work(2))
    weights = 2 * adapted(BLOCKS).num_parameters
    assert half == pytest.approx(full / 2 + weights)


def test_pefts_own_forward_keeps_a_float32_copy_of_each_input() -> None:
    fast, _ = activation_bytes(BLOCKS, adapted(BLOCKS), "flux", work(2))
    slow, _ = activation_bytes(BLOCKS, adapted(BLOCKS, dropout=0.1), "flux", work(2))
    weights = 2 * adapted(BLOCKS).num_parameters
    copies = 3 * ROWS * 2 * ADAPTED_INPUT * (8 + 40)
    assert slow - fast == pytest.approx(copies - weights)


def test_modulation_with_an_adapter_makes_its_stream_keep_more() -> None:
    layers = {"double_blocks.0.txt_mod.lin": linear(8, 48)}
    plain, _ = activation_bytes(layers, adapted(layers), "flux", work())
    own = 2 * 4 * (ADAPTED_INPUT * 8 + OUTPUT["flux"] * 48)
    assert plain == pytest.approx(own + 2 * 512 * 4 * MODULATED * 48, abs=1)


def test_layers_outside_of_blocks_are_never_recomputed() -> None:
    name = "te1.text_model.encoder.layers.0.mlp.fc1"
    layers = {name: linear(16, 64)}
    plain, recomputed = activation_bytes(layers, adapted(layers), "sdxl", work())
    assert plain == recomputed > 0
