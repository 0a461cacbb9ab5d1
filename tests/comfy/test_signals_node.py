"""The node that draws runs: its pictures, what it compares, its files."""

import csv
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from trustopt_test_prompts import node

BLOCKS = ("input_blocks.4", "middle_block", "output_blocks.1")
LAYERS = {
    "input_blocks.4": "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q",
    "middle_block": "lora_unet_middle_block_1_transformer_blocks_0_attn2_to_k",
    "output_blocks.1": "lora_unet_output_blocks_1_1_transformer_blocks_0_attn1_to_v",
}


def write_lora(path: Path, norms: dict[str, float]) -> Path:
    """Write a LoRA whose blocks have these norms."""
    tensors = {}
    for block, value in norms.items():
        tensors[f"{LAYERS[block]}.lora_down.weight"] = torch.ones(1, 4) / 2.0
        tensors[f"{LAYERS[block]}.lora_up.weight"] = torch.full((4, 1), value / 2.0)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path)
    return path


def write_run(tmp_path: Path, name: str, *, bins: bool = True, lora: float | None = 1.0) -> None:
    """Write what a run of 40 steps leaves behind, as far as the node reads it."""
    from trustopt_pack.trustopt.signals.recorder import Recorder

    with Recorder(tmp_path / "output" / "trustopt" / name / "signals.jsonl") as recorder:
        for step in range(1, 41):
            levels = {"loss_bin/2": 2.0 / step, "loss_bin/7": 1.0 / step} if bins else {}
            recorder.record(step, {"loss": 1.0 / step, "lr": 1e-4, "opt/trust": 0.5, **levels})
    if lora is not None:
        path = tmp_path / "output" / "loras" / f"{name}.safetensors"
        write_lora(path, {block: lora * (i + 1) for i, block in enumerate(BLOCKS)})


def table(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_saved_runs_are_drawn_and_compared(comfyui, tmp_path) -> None:
    write_run(tmp_path, "first")
    write_run(tmp_path, "second", lora=2.0)
    prompt = {"1": node("SignalPreview", saved_runs="first, second", width=640, height=480)}
    assert comfyui.run(prompt) == "success"
    pictures = comfyui.outputs("1")
    assert len(pictures) == 3
    for image in pictures:
        assert tuple(image.shape) == (1, 480, 640, 3)
        assert image.dtype == torch.float32
        assert float(image.std()) > 0.02
    assert len({float(image.mean()) for image in pictures}) == 3
    assert len(comfyui.server.events("executed")[0]["output"]["images"]) == 3
    assert comfyui.server.texts == []  # nothing was left out, nothing written
    assert not (tmp_path / "output" / "trustopt_plots").exists()


def test_what_a_run_does_not_have_is_not_shown(comfyui, tmp_path) -> None:
    write_run(tmp_path, "old", bins=False, lora=None)
    assert comfyui.run({"1": node("SignalPreview", saved_runs="old", save_files=True)}) == "success"
    assert [tuple(image.shape[1:3]) for image in comfyui.outputs("1")] == [(960, 1280)] * 3
    assert len(comfyui.server.events("executed")[0]["output"]["images"]) == 1
    (said,) = (text for _, text in comfyui.server.texts)
    assert "no norms by block of old: it has no LoRA in output/loras" in said
    plots = tmp_path / "output" / "trustopt" / "old" / "plots"
    assert {path.name for path in plots.iterdir()} == {"signals.png", "signals.csv"}


def test_a_broken_lora_is_named_and_the_rest_is_drawn(comfyui, tmp_path) -> None:
    write_run(tmp_path, "first")
    write_run(tmp_path, "second")
    broken = tmp_path / "output" / "loras" / "second.safetensors"
    broken.write_bytes(broken.read_bytes()[:40])
    assert comfyui.run({"1": node("SignalPreview", saved_runs="first, second")}) == "success"
    assert len(comfyui.server.events("executed")[0]["output"]["images"]) == 3
    (said,) = (text for _, text in comfyui.server.texts)
    assert "second.safetensors is truncated or no safetensors file" in said


def test_pictures_and_tables_are_written_on_request(comfyui, tmp_path) -> None:
    write_run(tmp_path, "first")
    look = {"width": 640, "height": 480, "save_files": True}
    assert comfyui.run({"1": node("SignalPreview", saved_runs="first", **look)}) == "success"
    plots = tmp_path / "output" / "trustopt" / "first" / "plots"
    for name in ("signals", "noise_levels", "blocks"):
        with Image.open(plots / f"{name}.png") as image:
            assert image.size == (640, 480)
    signals = table(plots / "signals.csv")
    assert signals[0][:3] == ["step", "loss", "lr"]
    assert len(signals) == 41
    levels = table(plots / "noise_levels.csv")
    assert levels[0] == ["noise_level_from", "noise_level_to", "steps 1 to 10", "steps 31 to 40"]
    assert levels[3][:2] == ["0.2", "0.3"]
    assert float(levels[3][3]) == pytest.approx(sum(2.0 / s for s in range(31, 41)) / 10)
    assert levels[1][2:] == ["", ""]
    rows = table(plots / "blocks.csv")
    assert rows[0] == ["block", "first"]
    assert [(row[0], float(row[1])) for row in rows[1:]] == [
        ("input_blocks.4", pytest.approx(1.0)),
        ("middle_block", pytest.approx(2.0)),
        ("output_blocks.1", pytest.approx(3.0)),
    ]
    assert "saved in output/trustopt/first/plots: signals.png" in comfyui.server.texts[-1][1]


def test_files_are_never_overwritten(comfyui, tmp_path) -> None:
    write_run(tmp_path, "first")
    write_run(tmp_path, "second", lora=2.0)
    for seen, theme in enumerate(("light", "dark"), start=1):
        inputs = {"saved_runs": "first, second", "theme": theme, "save_files": True}
        assert comfyui.run({"1": node("SignalPreview", **inputs)}) == "success"
        folders = sorted((tmp_path / "output" / "trustopt_plots").iterdir())
        assert [path.name for path in folders] == ["first_second", "first_second_2"][:seen]
        assert all(len(list(path.iterdir())) == 6 for path in folders)
    pictures = [path / "signals.png" for path in folders]
    assert pictures[0].read_bytes() != pictures[1].read_bytes()
    rows = table(folders[0] / "blocks.csv")
    assert rows[0] == ["block", "first", "second"]
    assert [float(cell) for cell in rows[3][1:]] == pytest.approx([3.0, 6.0])


@pytest.mark.parametrize("names", [["../../evil"], [""], ["a/b", "c\\d"], ["日本" * 40, "x"]])
def test_folders_of_pictures_stay_in_the_output_folder(comfyui, tmp_path, names) -> None:
    from trustopt_pack.nodes.places import plots_folder

    folder = plots_folder(names)
    assert folder.is_dir()
    assert folder.parent == tmp_path / "output" / "trustopt_plots"
    assert plots_folder(names).name == f"{folder.name}_2"


@pytest.mark.parametrize(("saved", "said"), [("", "no signals to draw"), ("x", "called 'x'")])
def test_no_signals_says_where_to_get_some(comfyui, saved, said) -> None:
    assert comfyui.run({"1": node("SignalPreview", saved_runs=saved)}) == "error"
    assert said in comfyui.error().splitlines()[0]
