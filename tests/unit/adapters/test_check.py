"""Mirrors trustopt/adapters/check.py and compare.py."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from trustopt.adapters import save_lora, select_layers, self_check
from trustopt.adapters.compare import relative_difference, rounding_tolerance
from trustopt.adapters.patch import LayerPatch, delta
from trustopt.config import AdapterConfig

ALGORITHMS = ["lora", "rslora", "dora", "loha", "lokr", "oft"]


def save(folder: Path, patches: Any, **options: Any) -> Path:
    return save_lora(
        folder / "a.safetensors", patches, family="flux", metadata={}, existing="replace", **options
    )


@pytest.fixture
def layers(tiny_flux_layers: dict) -> dict:
    return select_layers(tiny_flux_layers, AdapterConfig(regex="blocks.0.(img|lin)"), "flux")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_good_file_is_good(
    layers: dict, algorithm: Any, dtype: Any, trained: Any, tmp_path: Path
) -> None:
    patches = trained(layers, AdapterConfig(algorithm=algorithm, rank=4)).patches()
    path = save(tmp_path, patches, dtype=dtype)
    report = self_check(path, patches, layers, "flux")
    assert report.ok, report.summary()
    assert report.num_layers == len(layers)
    assert report.bytes == path.stat().st_size
    assert set(report.block_norms) == {"double_blocks.0", "single_blocks.0"}
    assert all(norm > 0 for norm in report.block_norms.values())
    assert "good" in report.summary()
    if dtype == torch.float32:
        assert report.worst_error < 1e-6


def test_small_values_in_half_precision_are_no_false_alarm(
    layers: dict, trained: Any, tmp_path: Path
) -> None:
    patches = trained(layers, AdapterConfig(rank=4), std=1e-6).patches()
    path = save(tmp_path, patches, dtype=torch.float16)
    assert self_check(path, patches, layers, "flux").ok


def test_the_diffusers_format_is_checked_after_fusing(
    layers: dict, trained: Any, tmp_path: Path
) -> None:
    patches = trained(layers, AdapterConfig(rank=4)).patches()
    path = save(tmp_path, patches, file_format="diffusers", dtype=torch.float32)
    report = self_check(path, patches, layers, "flux")
    assert report.ok, report.summary()
    assert report.worst_error < 1e-6


def test_a_file_can_be_checked_without_a_model(layers: dict, trained: Any, tmp_path: Path) -> None:
    patches = trained(layers, AdapterConfig(rank=4)).patches()
    assert self_check(save(tmp_path, patches), patches).ok
    others = trained(layers, AdapterConfig(rank=4), seed=1).patches()
    assert not self_check(tmp_path / "a.safetensors", others).ok


def tampered(path: Path, change: Any) -> Path:
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    change(tensors)
    save_file(tensors, path)
    return path


def spoil_one(tensors: dict) -> None:
    tensors["lora_unet_double_blocks_0_img_attn_qkv.lora_up.weight"][0, 0] += 1.0


def make_nan(tensors: dict) -> None:
    tensors["lora_unet_double_blocks_0_img_attn_qkv.lora_up.weight"][0, 0] = float("nan")


def lose_one(tensors: dict) -> None:
    for key in [k for k in tensors if "img_attn_qkv" in k]:
        del tensors[key]


def flatten_block(tensors: dict) -> None:
    for key in [k for k in tensors if "single_blocks" in k and "up" in k]:
        tensors[key].zero_()


def rename(tensors: dict) -> None:
    for key in [k for k in tensors if "img_attn_qkv" in k]:
        tensors[key.replace("double_blocks_0", "double_blocks_7")] = tensors.pop(key)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (spoil_one, "the change of double_blocks.0.img_attn.qkv differs by"),
        (make_nan, "1 layers hold NaN or infinite values: double_blocks.0.img_attn.qkv"),
        (lose_one, "1 trained layers are not in the file: double_blocks.0.img_attn.qkv"),
        (flatten_block, "block single_blocks.0 changes nothing"),
        (rename, "changes 1 layers this flux model does not have: double_blocks.7.img_attn.qkv"),
    ],
)
def test_a_bad_file_is_described(
    layers: dict, change: Any, problem: str, trained: Any, tmp_path: Path
) -> None:
    patches = trained(layers, AdapterConfig(rank=4)).patches()
    path = tampered(save(tmp_path, patches, dtype=torch.float32), change)
    report = self_check(path, patches, layers, "flux")
    assert not report.ok
    assert any(problem in line for line in report.problems), report.problems
    assert "NOT GOOD" in report.summary()


def test_other_bytes_under_the_same_header_are_noticed(
    layers: dict, trained: Any, tmp_path: Path
) -> None:
    patches = trained(layers, AdapterConfig(rank=4)).patches()
    path = save(tmp_path, patches)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1  # the lowest exponent bits of one value
    path.write_bytes(content)
    report = self_check(path, patches, layers, "flux")
    assert any("their hash differs" in line for line in report.problems)


def test_a_truncated_file_is_described(layers: dict, trained: Any, tmp_path: Path) -> None:
    patches = trained(layers, AdapterConfig(rank=4)).patches()
    path = save(tmp_path, patches)
    path.write_bytes(path.read_bytes()[:-8])
    assert "truncated" in self_check(path, patches, layers, "flux").problems[0]


@pytest.mark.parametrize("algorithm", ["lora", "lokr"])
def test_difference_from_factors_is_the_dense_one(
    layers: dict, algorithm: Any, trained: Any
) -> None:
    one = trained(layers, AdapterConfig(algorithm=algorithm, rank=4), seed=1).patches()
    two = trained(layers, AdapterConfig(algorithm=algorithm, rank=4, alpha=3.0), seed=2).patches()
    for name in layers:
        a, b = delta(one[name]).double(), delta(two[name]).double()
        expected = float((a - b).norm() / b.norm())
        assert relative_difference(one[name], two[name]) == pytest.approx(expected, rel=1e-5)
        assert relative_difference(one[name], one[name]) < 1e-7


def test_forms_are_not_compared_with_each_other() -> None:
    oft = LayerPatch("oft", {"oft_blocks": torch.zeros(1, 2, 2)}, 0.0)
    lora = LayerPatch(
        "lora", {"lora_down.weight": torch.ones(1, 2), "lora_up.weight": torch.ones(2, 1)}, 1.0
    )
    with pytest.raises(ValueError, match="oft cannot be compared with lora"):
        relative_difference(oft, lora)


def test_tolerance_follows_the_dtype() -> None:
    factors = {"lora_down.weight": torch.ones(1, 4), "lora_up.weight": torch.ones(4, 1)}
    patch = LayerPatch("lora", factors, 1.0)
    assert rounding_tolerance(patch) < 2e-6
    assert rounding_tolerance(patch.to(torch.float16)) == pytest.approx(2e-3, rel=0.1)
    assert rounding_tolerance(patch.to(torch.bfloat16)) == pytest.approx(1.6e-2, rel=0.1)
