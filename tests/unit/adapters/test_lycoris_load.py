"""Where LyCORIS is installed, its own loader makes the same weights of our files.

DoRA is left out: that loader reads a magnitude over outputs only, which ComfyUI and A1111 do not
take for the same change.
"""

from typing import Any

import pytest
import torch

from trustopt.adapters.formats import to_tensors
from trustopt.adapters.keys import kohya_name
from trustopt.adapters.patch import merge
from trustopt.config import AdapterConfig
from trustopt.host import LayerShape

modules = pytest.importorskip(
    "lycoris.modules", reason="NOT CHECKED: install lycoris-lora to compare with its loader"
)


@pytest.fixture
def layers(make_table: Any) -> dict[str, LayerShape]:
    return make_table(
        ("input_blocks.4.1.proj_in", 24, 40),
        ("input_blocks.7.1.transformer_blocks.0.ff.net.0.proj", 64, 512),
        ("input_blocks.7.1.transformer_blocks.0.attn2.to_k", 96, 64),
        ("input_blocks.4.0.in_layers.2", 12, 20, 3),
        ("input_blocks.4.0.skip_connection", 12, 20, 1),
    )


@pytest.mark.parametrize("rank", [2, 4, 11])
@pytest.mark.parametrize("algorithm", ["lora", "locon", "rslora", "loha", "lokr", "oft"])
def test_lycoris_makes_the_same_weights(
    layers: dict, algorithm: Any, rank: int, trained: Any, make_base_layer: Any
) -> None:
    config = AdapterConfig(
        algorithm=algorithm, rank=rank, alpha=3.0, conv_rank=rank, conv_alpha=2.0
    )
    patches = trained(layers, config).patches()
    tensors = to_tensors(patches, "kohya", "sdxl")
    for name, shape in layers.items():
        base = make_base_layer(shape)
        kind, weights = modules.get_module(tensors, kohya_name(name))
        module = modules.make_module(kind, weights, kohya_name(name), base)
        if algorithm in ("loha", "lokr"):
            # What its forward adds; its get_merged_weight multiplies by the scale twice (4.1.3).
            merged = base.weight + module.get_weight(base.weight.shape) * module.scalar
        else:
            merged, _ = module.get_merged_weight()
        expected = merge(patches[name], base.weight)
        torch.testing.assert_close(
            merged.detach().reshape(expected.shape), expected, rtol=1e-4, atol=1e-5, msg=name
        )
