"""Mirrors trustopt/adapters/read.py."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from trustopt.adapters import check_fits, read_lora, save_lora, select_layers
from trustopt.adapters.compare import relative_difference, rounding_tolerance
from trustopt.adapters.patch import delta
from trustopt.config import AdapterConfig

ALGORITHMS = ["lora", "locon", "rslora", "dora", "loha", "lokr", "oft"]
DOWN, UP = torch.ones(2, 8), torch.ones(8, 2)


def lora(name: str, down: torch.Tensor = DOWN, up: torch.Tensor = UP, **more: Any) -> dict:
    return {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up} | {
        f"{name}.{key}": torch.tensor(value) for key, value in more.items()
    }


def saved(folder: Path, tensors: dict, metadata: dict | None = None) -> Path:
    path = folder / "file.safetensors"
    save_file({key: tensor.clone() for key, tensor in tensors.items()}, path, metadata)
    return path


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    algorithm=st.sampled_from(ALGORITHMS),
    rank=st.integers(1, 8),
    alpha=st.floats(0.1, 32.0),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    file_format=st.sampled_from(["kohya", "comfy"]),
    regex=st.sampled_from(["attn2", r"ff\.net", "proj_(in|out)$", "in_layers|op$", r"^te1\."]),
    seed=st.integers(0, 1000),
)
def test_what_is_saved_is_read(
    algorithm: Any,
    rank: int,
    alpha: float,
    dtype: torch.dtype,
    file_format: Any,
    regex: str,
    seed: int,
    tiny_sdxl_layers: dict,
    trained: Any,
    tmp_path: Path,
) -> None:
    assume(algorithm != "oft" or rank > 1)  # a rotation needs blocks of two
    config = AdapterConfig(
        algorithm=algorithm, rank=rank, alpha=alpha, conv_rank=rank, conv_alpha=alpha, regex=regex
    )
    layers = dict(list(select_layers(tiny_sdxl_layers, config, "sdxl").items())[:3])
    patches = trained(layers, config, seed=seed).patches()
    path = save_lora(
        tmp_path / "a.safetensors",
        patches,
        family="sdxl",
        metadata={"ss_seed": "1"},
        file_format=file_format,
        dtype=dtype,
        existing="replace",
    )
    file = read_lora(path)
    check_fits(file, tiny_sdxl_layers, "sdxl")
    assert file.patches.keys() == patches.keys()
    assert file.file_format == file_format
    assert file.family == (None if regex == r"^te1\." else "sdxl")
    assert file.metadata["ss_seed"] == "1"
    for name, patch in patches.items():
        error = relative_difference(file.patches[name], patch)
        assert error <= rounding_tolerance(file.patches[name]), name


def test_algorithm_ranks_and_alphas(tmp_path: Path) -> None:
    tensors = lora("lora_unet_img_in", alpha=1.0)
    tensors |= lora("lora_unet_txt_in", torch.ones(4, 8), torch.ones(8, 4), alpha=2.0)
    tensors |= lora("lora_unet_final_layer_linear")
    file = read_lora(saved(tmp_path, tensors))
    assert file.algorithms == ["lora"]
    assert file.ranks == {2: 2, 4: 1}
    assert file.alphas == {1.0: 1, 2.0: 1, None: 1}
    assert file.dtypes == {"float32": 8}


@pytest.mark.parametrize("suffix", [".pt", ".ckpt", ".bin"])
def test_pickles_are_refused_without_opening_them(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(pickle.dumps({"x": 1}))
    with pytest.raises(ValueError, match=r"refused: only .safetensors files.*can run code"):
        read_lora(path)


def test_a_pickle_in_disguise_is_no_safetensors_file(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(pickle.dumps(list(range(100))))
    with pytest.raises(ValueError, match=r"model.safetensors is truncated or no safetensors file"):
        read_lora(path)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_truncated_files(tmp_path: Path, share: float) -> None:
    path = saved(tmp_path, lora("lora_unet_img_in"))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ValueError, match="truncated or no safetensors file"):
        read_lora(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no file"):
        read_lora(tmp_path / "none.safetensors")


def test_unknown_keys_are_listed_and_the_known_styles_too(tmp_path: Path) -> None:
    tensors = lora("lora_unet_img_in") | lora("base_model.model.blocks.0.attn")
    path = saved(tmp_path, tensors)
    with pytest.raises(ValueError, match=r"has 2 of 4 keys in no known style: base_model.*kohya"):
        read_lora(path)
    assert len(read_lora(path, strict=False).unknown) == 2


def test_no_lora_at_all(tmp_path: Path) -> None:
    path = saved(tmp_path, {"model.diffusion_model.input_blocks.0.0.weight": torch.ones(2)})
    with pytest.raises(ValueError, match="1 of 1 keys in no known style"):
        read_lora(path, strict=False)


def test_alpha_zero_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, lora("lora_unet_img_in", alpha=0.0))
    with pytest.raises(ValueError, match=r"alpha 0.0 at img_in, which switches the layer off"):
        read_lora(path)


def test_two_families_in_one_file(tmp_path: Path) -> None:
    tensors = lora("lora_unet_img_in") | lora("lora_unet_middle_block_1_proj_in")
    with pytest.raises(ValueError, match=r"mixes model families: img_in \(flux\), middle_block"):
        read_lora(saved(tmp_path, tensors))


def test_stable_diffusion_1_is_named(tmp_path: Path) -> None:
    name = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
    with pytest.raises(ValueError, match=r"is a LoRA of Stable Diffusion 1\.x or 2\.x"):
        read_lora(saved(tmp_path, lora(name)))


def test_a_lora_of_another_family_names_the_first_layers_of_both(
    tmp_path: Path, tiny_sdxl_layers: dict
) -> None:
    file = read_lora(saved(tmp_path, lora("lora_unet_img_in")))
    with pytest.raises(
        ValueError, match=r"LoRA of flux, the model is sdxl.* img_in, .* time_embed"
    ):
        check_fits(file, tiny_sdxl_layers, "sdxl")


def test_a_lora_of_another_size_names_both_shapes(tmp_path: Path, tiny_flux_layers: dict) -> None:
    file = read_lora(saved(tmp_path, lora("lora_unet_img_in")))
    with pytest.raises(
        ValueError, match=r"img_in is \(8, 8\) .*in the file and \(64, 64\) in this"
    ):
        check_fits(file, tiny_flux_layers, "flux")


def test_layers_the_model_lacks_are_named(tmp_path: Path, tiny_flux_layers: dict) -> None:
    down, up = torch.ones(2, 64), torch.ones(64, 2)
    file = read_lora(saved(tmp_path, lora("lora_unet_single_blocks_9_linear2", down, up)))
    with pytest.raises(ValueError, match=r"changes 1 layers .*single_blocks.9.linear2"):
        check_fits(file, tiny_flux_layers, "flux")


def test_scale_in_the_header_of_diffusers(tmp_path: Path) -> None:
    settings_ = {
        "transformer.r": 2,
        "transformer.lora_alpha": 4,
        "transformer.rank_pattern": {},
        "transformer.alpha_pattern": {"context_embedder": 1},
    }
    tensors = {
        f"transformer.{name}.lora_{part}.weight": tensor
        for name in ("x_embedder", "context_embedder")
        for part, tensor in (("A", DOWN), ("B", UP))
    }
    metadata = {"lora_adapter_metadata": json.dumps(settings_)}
    file = read_lora(saved(tmp_path, tensors, metadata))
    assert file.patches["img_in"].scale == 2.0
    assert file.patches["txt_in"].scale == 0.5
    assert float(delta(file.patches["img_in"])[0, 0]) == 4.0
    written = save_lora(
        tmp_path / "b.safetensors",
        file.patches,
        family="flux",
        metadata=file.metadata,
        file_format="diffusers",
        dtype=file.dtype,
    )
    again = read_lora(written)  # scaled once, not twice
    assert "lora_adapter_metadata" not in again.metadata
    assert torch.equal(delta(again.patches["img_in"]), delta(file.patches["img_in"]))


def test_dtype_is_that_of_the_factors(tmp_path: Path) -> None:
    tensors = lora("lora_unet_img_in", DOWN.half(), UP.half(), alpha=1.0)
    tensors["lora_unet_img_in.dora_scale"] = torch.ones(1, 8)
    assert read_lora(saved(tmp_path, tensors)).dtype == torch.float16


def test_the_file_can_be_replaced_after_reading(tmp_path: Path) -> None:
    path = saved(tmp_path, lora("lora_unet_img_in", alpha=1.0))
    file = read_lora(path)
    before = delta(file.patches["img_in"]).clone()
    path.write_bytes(b"\0" * path.stat().st_size)
    assert torch.equal(delta(file.patches["img_in"]), before)
