"""Kill -9 at random moments, then resume: nothing differs from a run that was left alone."""

import multiprocessing
import os
import random
import time
from pathlib import Path

import pytest
from killed import JOBS, SAVE_EVERY, train

from trustopt.signals import load_signals

HERE = Path(__file__).parent
IMPORTED = (
    "killed",
    "peft",
    "diffusers.models.autoencoders.autoencoder_kl",
    "diffusers.models.unets.unet_2d_condition",
    "transformers.models.clip.modeling_clip",
)
"""What a job imports in the end."""


@pytest.fixture(scope="module")
def processes():
    """Start processes in no time: a server that has imported everything forks each."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        pytest.skip("this system cannot fork")
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(HERE), str(HERE.parents[2]), os.environ.get("PYTHONPATH", "")]
    )
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(IMPORTED))
    return context


def run_until_killed(processes, kind: str, folder: Path, steps: int, delay: float) -> list[int]:
    """Train in another process and kill it soon after it tells so many steps; return those."""
    hears, tells = processes.Pipe(duplex=False)
    process = processes.Process(target=train, args=(kind, folder, tells.send))
    process.start()
    tells.close()
    told: list[int] = []
    try:
        while len(told) < steps:
            told.append(hears.recv())
    except EOFError:
        pass  # it came to its end
    else:
        time.sleep(delay)  # to be in the middle of something
        process.kill()
    process.join()
    assert process.exitcode in (0, -9)
    return told


@pytest.mark.parametrize(
    ("kind", "kills"),
    [("everything", 12), ("autotrustgo", 4), ("fp16", 4), ("text encoders", 3)],
)
def test_kill_and_resume_is_bit_identical(tmp_path, processes, kind, kills) -> None:
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    train(kind, straight, lambda step: None)
    last = JOBS[kind](straight).config.steps

    chance = random.Random(kind)
    done, lost = 0, []
    for number in range(kills):
        # Without a saved state there is nothing to go on from: the first one lives longer.
        steps = chance.randint(1, 6) if number else SAVE_EVERY + 1
        told = run_until_killed(processes, kind, killed, steps, chance.uniform(0.0, 0.03))
        if not told:  # the one before had gone to the very end without telling
            break
        lost.append(done + 1 - told[0])
        done = told[-1]
        if done == last:
            break
    rest = run_until_killed(processes, kind, killed, 10**9, 0.0)

    # The process may have gone one step further than it told.
    assert all(gone <= SAVE_EVERY for gone in [*lost, *(done + 1 - step for step in rest[:1])])
    name = Path("loras") / "toy.safetensors"
    assert (straight / name).read_bytes() == (killed / name).read_bytes()
    assert [p.name for p in (killed / "loras").iterdir()] == ["toy.safetensors"]
    one = load_signals(straight / "runs" / "toy" / "signals.jsonl")
    two = load_signals(killed / "runs" / "toy" / "signals.jsonl")
    assert one.steps.tolist() == two.steps.tolist() == list(range(1, last + 1))
    for series in ("loss", "grad_norm", "lr", "val/loss"):
        assert str(one.series(series).tolist()) == str(two.series(series).tolist()), series


def test_what_a_killed_process_half_wrote_is_removed_by_the_resumed_one(tmp_path) -> None:
    train("text encoders", tmp_path, lambda step: None)
    left, others = (tmp_path / "loras" / f".{name}.safetensors.123.tmp" for name in ("toy", "own"))
    for file in (left, others):
        file.write_bytes(b"half a file")
    train("text encoders", tmp_path, lambda step: None)
    assert not left.exists()
    assert others.exists()
