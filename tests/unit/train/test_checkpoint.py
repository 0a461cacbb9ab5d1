"""Mirrors trustopt/train/checkpoint.py: what a saved state brings back, refuses, and survives."""

import logging
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from toy import ToyHost, job

from trustopt.config import AdapterConfig, DataConfig, OptimizerConfig
from trustopt.signals import load_signals
from trustopt.train.checkpoint import RUN_FILE, ResumeError, differences
from trustopt.train.hooks import Hooks
from trustopt.train.run import run_job
from trustopt.train.tree_file import load_tree, save_tree


class OtherHost(ToyHost):
    """The same layers with other weights, as the host's hash tells."""

    def identity(self):
        return {**super().identity(), "network": "0123456789abcdef", "vae": "another"}


def refused(folder, host=None, **changes) -> tuple[str, ToyHost]:
    """Return what resuming a changed job says, and the host that must not have worked."""
    host = host or ToyHost()
    with pytest.raises(ResumeError) as caught:
        run_job(job(folder, host=host, resume=True, **changes))
    return str(caught.value), host


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"adapter": AdapterConfig(rank=4, alpha=2.0)}, "adapter.rank was 2 and is now 4"),
        ({"optimizer": OptimizerConfig(name="emonavi")}, "optimizer was 'adamw' and is now"),
        ({"num_images": 6}, "data.number of pictures was 5 and is now 6; pictures, captions"),
        ({"data": DataConfig(resolution=64)}, "data.resolution was 32 and is now 64"),
        ({"seed": 7}, "seed was 0 and is now 7"),
        ({"accumulation": 2}, "batch was [1, 1, 1] and is now [1, 2, 1]"),
    ],
)
def test_another_job_is_refused_before_any_work(tmp_path, changes, words) -> None:
    run_job(job(tmp_path))
    said, host = refused(tmp_path, **changes)
    assert said.startswith("the saved run is another job: ")
    assert words in said
    assert said.endswith("or choose to continue anyway") == (
        not {"adapter", "optimizer"} & changes.keys()
    )
    assert host.images_encoded == 0
    assert not host.calls


def test_another_model_is_refused_by_what_differs(tmp_path) -> None:
    run_job(job(tmp_path))
    said, _ = refused(tmp_path, OtherHost())
    assert "the base model's weights, or the LoRAs on it, are others; the VAE is another" in said


def test_other_captions_are_another_data_set(tmp_path) -> None:
    run_job(job(tmp_path))
    changed = job(tmp_path, resume=True)
    samples = [replace(s, caption=f"new {s.caption}") for s in changed.images.samples]
    changed.images = replace(changed.images, samples=tuple(samples))
    with pytest.raises(ResumeError, match="pictures, captions, masks or repeats are others"):
        run_job(changed)


@pytest.mark.parametrize(
    ("changes", "host", "word"),
    [
        ({"num_images": 6, "batch_size": 2}, ToyHost, "number of pictures was 5 and is now 6"),
        ({"data": DataConfig(resolution=32, flip=True)}, ToyHost, "data.flip was False"),
        ({"seed": 7}, OtherHost, "the VAE is another"),
    ],
)
def test_told_to_it_goes_on_anyway_and_says_across_what(tmp_path, changes, host, word) -> None:
    first = run_job(job(tmp_path))
    told: list[str] = []
    going_on = job(
        tmp_path, host=host(), resume=True, steps=30, hooks=Hooks(on_report=told.append), **changes
    )
    going_on.anyway = True
    result = run_job(going_on)

    assert result.lora == first.lora
    assert result.signals.steps.tolist() == list(range(1, 31))
    [line] = [text for text in told if text.startswith("going on although ")]
    assert word in line


def test_a_damaged_state_gives_way_to_the_one_before(tmp_path, caplog) -> None:
    straight = run_job(job(tmp_path / "a"))
    run_job(job(tmp_path / "b"))
    state = tmp_path / "b" / "runs" / "toy" / "state"
    newest = state / "00000012" / RUN_FILE
    newest.write_bytes(newest.read_bytes()[:-100])

    with caplog.at_level(logging.WARNING, "trustopt"):
        resumed = run_job(job(tmp_path / "b", resume=True, keep_last=1))

    assert "the saved state 00000012 cannot be read and is set aside" in caplog.text
    assert sorted(p.name for p in state.iterdir()) == ["00000012", "damaged-00000012"]
    assert resumed.report.model_hash == straight.report.model_hash
    assert load_signals(resumed.folder.signals).steps.tolist() == list(range(1, 13))


def test_an_average_turned_on_later_starts_from_the_resumed_weights(tmp_path) -> None:
    first = run_job(job(tmp_path, lr=0.1))
    resumed = run_job(job(tmp_path, lr=1e-9, steps=13, resume=True, ema_decay=0.999))
    trained, average = load_file(first.lora), load_file(resumed.lora)
    for key, tensor in trained.items():
        torch.testing.assert_close(average[key], tensor, rtol=0, atol=1e-6)


def test_differences_are_named_by_their_path() -> None:
    assert differences("a", {"x": 1, "y": [2]}, {"x": 1, "y": [3], "z": None}) == [
        "a.y was [2] and is now [3]"
    ]
    assert differences("data.pictures", "ab", "cd") == [
        "pictures, captions, masks or repeats are others"
    ]


def test_a_tree_comes_back_whole_in_part_or_not_at_all(tmp_path) -> None:
    path = tmp_path / "tree.safetensors"
    tree = {"plain": {"a": (1, [None, 0.5]), 2: "b"}, "tensor": torch.arange(3)}
    save_tree(path, tree)
    loaded = load_tree(path)
    assert loaded["plain"] == tree["plain"]
    assert torch.equal(loaded["tensor"], tree["tensor"])
    assert load_tree(path, ["plain"]) == {"plain": tree["plain"]}
    path.write_bytes(path.read_bytes()[:-1])
    for only in (None, ["plain"]):
        with pytest.raises(ValueError, match="is damaged"):
            load_tree(path, only)
