"""Mirrors trustopt/cli/launched.py: whole jobs under a real launcher, two processes on this CPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from trustopt.cli.build_job import choose_device
from trustopt.cli.launched import launched
from trustopt.cli.main import main
from trustopt.train.ranks import Ranks

ROOT = Path(__file__).parents[3]
PATIENCE = 600.0
"""Seconds after which the launcher is taken to hang."""


def launch(*arguments: str) -> subprocess.CompletedProcess:
    """Run ``trustopt`` in two processes of torchrun."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    return subprocess.run(
        [*launcher, "-m", "trustopt", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@pytest.mark.slow  # on a busy machine gloo now and then aborts a process that is already done
def test_two_processes_train_one_lora_and_one_speaks(job_file, capsys) -> None:
    done = launch("train", str(job_file), "--set", "plan.batch_size=1")
    assert done.returncode == 0, done.stderr
    out = done.stdout
    assert "• Batch: 1 * x accumulation 1 x 2 processes, 2 images a step: each image" in out
    assert out.count("step 4/4  loss ") == out.count("finished: 4 steps") == 1
    folder = job_file.parent
    assert [path.name for path in (folder / "runs").iterdir()] == ["squares"]
    assert (folder / "runs" / "squares" / "samples").is_dir()

    alone = ["plan.batch_size=1", "plan.accumulation=2", "output.name=alone"]
    assert main(["train", str(job_file), *(word for s in alone for word in ("--set", s))]) == 0
    two, one = (
        load_file(folder / "loras" / f"{name}.safetensors") for name in ("squares", "alone")
    )
    assert two.keys() == one.keys()
    for name, tensor in one.items():
        assert (two[name] - tensor).norm() <= 1e-5 * tensor.norm(), name


def test_bad_input_is_said_once(job_file) -> None:
    done = launch("train", str(job_file), "--set", "plan.batch_size=many")
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if line.startswith("trustopt: ")]
    assert len(lines) == 1
    assert "[plan] batch_size must be a whole number" in lines[0]


def test_without_a_launcher_there_is_one_process(monkeypatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with launched() as ranks:
        assert (ranks.rank, ranks.size, ranks.is_first) == (0, 1, True)


def test_a_launcher_that_does_not_say_who_is_who_is_named(monkeypatch, capsys, job_file) -> None:
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["train", str(job_file)]) == 2
    assert "the processes cannot find each other" in capsys.readouterr().err.splitlines()[0]


class TwoRanks(Ranks):
    """The second of two processes on one machine."""

    rank, size, local_rank = 1, 2, 1


@pytest.fixture
def gpus(monkeypatch):
    """Pretend that there are so many GPUs."""

    def pretend(count: int) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

    return pretend


@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_each_process_has_a_gpu_of_its_own(gpus, name) -> None:
    gpus(2)
    assert choose_device(name, TwoRanks()) == torch.device("cuda", 1)
    assert choose_device(name, Ranks()).index is None
    assert choose_device("cpu", TwoRanks()) == torch.device("cpu")


@pytest.mark.parametrize(("name", "count"), [("auto", 1), ("cuda:0", 2)])
def test_one_gpu_for_two_processes_is_refused(gpus, name, count) -> None:
    gpus(count)
    with pytest.raises(ValueError, match=rf"here {count}\), with device auto or cuda"):
        choose_device(name, TwoRanks())
