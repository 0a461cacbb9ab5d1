"""Mirrors trustopt/cli/bench_parts.py and style_bench/parts.py."""

import json

import torch

from trustopt.adapters.patch import LayerPatch
from trustopt.cli import bench_parts
from trustopt.cli.style_bench.parts import merged


def patch(rank: int, alpha: float, *, seed: int, kernel: tuple[int, ...] = ()) -> LayerPatch:
    draw = torch.Generator().manual_seed(seed)
    down = torch.randn(rank, 5, *kernel, generator=draw)
    up = torch.randn(7, rank, *(1 for _ in kernel), generator=draw)
    return LayerPatch("lora", {"lora_down.weight": down, "lora_up.weight": up}, alpha=alpha)


def change(patch: LayerPatch) -> torch.Tensor:
    """Return the patch's change of the weight, flattened."""
    down, up = patch.tensors["lora_down.weight"], patch.tensors["lora_up.weight"]
    return patch.scale * up.flatten(1) @ down.flatten(1)


def test_a_merged_patch_changes_as_much_as_its_parts() -> None:
    for kernel in ((), (3, 3)):
        parts = [patch(2, 1.0, seed=0, kernel=kernel), patch(3, 6.0, seed=1, kernel=kernel)]
        both = merged(parts, 0.5)
        assert both.rank == 5
        expected = 0.5 * (change(parts[0]) + change(parts[1]))
        torch.testing.assert_close(change(both), expected)


def test_all_ways_are_trained_measured_and_not_repeated(package, tmp_path, capsys) -> None:
    out = tmp_path / "parts.jsonl"
    arguments = ["--pictures", str(package), "--out", str(out), "--steps", "4", "--seeds", "1"]
    arguments += ["--trained", "8", "--held-out", "1", "--only", "emolynx"]
    assert bench_parts.main(arguments) == 0
    (result,) = [json.loads(line) for line in out.read_text().splitlines()]
    losses = result["losses"]
    assert set(losses) == set(bench_parts.WAYS)
    assert len({round(loss, 9) for loss in losses.values()}) == len(losses)
    assert bench_parts.main(arguments) == 0
    assert len(out.read_text().splitlines()) == 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("| emolynx | ")
    assert f"{losses['sum']:.4f}" in last
