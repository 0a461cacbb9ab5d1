"""Mirrors trustopt/cli/inspect_lora.py and convert_lora.py."""

import pytest
import torch
from safetensors import safe_open

from trustopt.adapters import LayerPatch, read_lora, save_lora
from trustopt.cli.main import main

LAYERS = ("double_blocks.0.img_attn.proj", "double_blocks.1.img_attn.proj")


@pytest.fixture
def lora(tmp_path):
    """Return a FLUX LoRA file of rank 4 whose changes have rank 2."""
    generator = torch.Generator().manual_seed(0)
    patches = {}
    for name in LAYERS:
        up, down = (torch.randn(shape, generator=generator) for shape in ((32, 2), (2, 32)))
        tensors = {
            "lora_up.weight": torch.cat([up, torch.zeros(32, 2)], 1),
            "lora_down.weight": torch.cat([down, torch.zeros(2, 32)]),
        }
        patches[name] = LayerPatch(form="lora", tensors=tensors, alpha=4.0)
    path = tmp_path / "fox.safetensors"
    metadata = {"ss_network_dim": "4", "ss_steps": "7"}
    return save_lora(path, patches, family="flux", metadata=metadata, dtype=torch.float32)


def test_inspect_shows_family_rank_and_metadata(lora, capsys) -> None:
    assert main(["inspect", str(lora)]) == 0
    out = capsys.readouterr().out
    assert "family     flux" in out
    assert "rank       4" in out
    assert "steps         7" in out


def test_convert_changes_format_precision_and_rank_and_keeps_the_change(lora, capsys) -> None:
    target = lora.with_name("small.safetensors")
    arguments = ["--format", "diffusers", "--dtype", "bf16", "--rank", "2"]
    assert main(["convert", str(lora), str(target), *arguments]) == 0
    assert "100.00% of the energy kept" in capsys.readouterr().out
    with safe_open(str(target), framework="pt") as file:
        assert all(key.startswith("transformer.") for key in file.keys())  # noqa: SIM118
        assert file.metadata()["ss_network_dim"] == "2"
        assert file.metadata()["ss_steps"] == "7"
    one, two = read_lora(lora), read_lora(target)
    assert two.dtypes == {"bfloat16": 4}
    for name in LAYERS:
        changes = []
        for patch in (one.patches[name], two.patches[name]):
            up, down = (patch.tensors[f"lora_{k}.weight"].float() for k in ("up", "down"))
            changes.append(patch.scale * up @ down)
        assert (changes[0] - changes[1]).norm() < 0.02 * changes[0].norm()


def test_an_existing_file_is_never_overwritten(lora, capsys) -> None:
    before = lora.read_bytes()
    assert main(["convert", str(lora), str(lora), "--dtype", "fp16"]) == 2
    assert "exists already" in capsys.readouterr().err
    assert lora.read_bytes() == before


def test_what_is_no_lora_is_refused(tmp_path, capsys) -> None:
    assert main(["inspect", str(tmp_path / "none.safetensors")]) == 2
    (tmp_path / "torn.safetensors").write_bytes(b"1234")
    assert main(["inspect", str(tmp_path / "torn.safetensors")]) == 2
    assert "Traceback" not in capsys.readouterr().err
