"""Mirrors trustopt/adapters/continuation.py."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from trustopt.adapters import read_lora, save_lora, select_layers
from trustopt.adapters.compare import relative_difference
from trustopt.adapters.continuation import continue_adapters
from trustopt.adapters.patch import LayerPatch
from trustopt.config import AdapterConfig

ALGORITHMS = ["lora", "locon", "rslora", "dora", "loha", "lokr", "oft"]


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(9)


def saved(folder: Path, patches: Any, family: Any = "sdxl", **options: Any) -> Path:
    return save_lora(
        folder / "a.safetensors",
        patches,
        family=family,
        metadata={},
        dtype=torch.float32,
        **options,
    )


@pytest.mark.parametrize("factor", [-1, 8])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_any_file_of_ours_goes_on_as_it_is(
    algorithm: Any,
    factor: int,
    tiny_sdxl_layers: dict,
    trained: Any,
    make_base_layer: Any,
    make_input: Any,
    tmp_path: Path,
) -> None:
    config = AdapterConfig(
        algorithm=algorithm,
        rank=4,
        alpha=3.0,
        conv_rank=3,
        lokr_factor=factor,
        regex=r"input_blocks\.4\.(0|1\.proj)",
        ranks={"proj_in": 2},
    )
    layers = select_layers(tiny_sdxl_layers, config, "sdxl")
    patches = trained(layers, config).patches()
    asked = AdapterConfig(algorithm=algorithm if algorithm in ("locon", "rslora") else "lora")
    adapters = continue_adapters(
        read_lora(saved(tmp_path, patches)), tiny_sdxl_layers, "sdxl", asked, generator()
    )
    assert adapters.config.algorithm == algorithm
    assert list(adapters) == list(layers)
    for name, shape in layers.items():  # DoRA learns its base layer's norms in a forward
        adapters.layers[name].base_layer = make_base_layer(shape)
        adapters[name](make_input(shape))
        assert relative_difference(adapters.patch(name), patches[name]) < 1e-6, name


def test_a_split_diffusers_file_goes_on_fused(
    tiny_flux_layers: dict, trained: Any, tmp_path: Path
) -> None:
    config = AdapterConfig(rank=4)
    layers = select_layers(tiny_flux_layers, config, "flux")
    patches = trained(layers, config).patches()
    path = saved(tmp_path, patches, "flux", file_format="diffusers")
    adapters = continue_adapters(read_lora(path), tiny_flux_layers, "flux", config, generator())
    for name, patch in adapters.patches().items():
        assert relative_difference(patch, patches[name]) < 1e-6, name


def test_what_cannot_be_continued_is_refused(
    tiny_flux_layers: dict, trained: Any, tmp_path: Path
) -> None:
    config = AdapterConfig(rank=2, regex="img_in|txt_in")
    layers = select_layers(tiny_flux_layers, config, "flux")
    patches = trained(layers, config).patches()
    loha = trained(layers, replace(config, algorithm="loha")).patches()
    mixed = saved(tmp_path, {**patches, "txt_in": loha["txt_in"]}, "flux")
    with pytest.raises(ValueError, match=r"mixes \w+ and \w+: such a file cannot be continued"):
        continue_adapters(read_lora(mixed), tiny_flux_layers, "flux", config, generator())
    over_outputs = {
        name: LayerPatch(
            "lora",
            {**patch.tensors, "dora_scale": torch.ones(layers[name].out_features, 1)},
            patch.alpha,
        )
        for name, patch in patches.items()
    }
    path = saved(tmp_path, over_outputs, "flux", existing="replace")
    with pytest.raises(ValueError, match="which scales outputs; only"):
        continue_adapters(read_lora(path), tiny_flux_layers, "flux", config, generator())
