"""Mirrors trustopt/train/lock.py: no two write one run at a time."""

import subprocess
import sys
from pathlib import Path

import pytest
from toy import ToyHost, job

from trustopt.train.hooks import Hooks
from trustopt.train.lock import claimed
from trustopt.train.run import run_job

ROOT = Path(__file__).parents[3]
HOLD = """
import pathlib, sys, time
from trustopt.train.lock import claimed
with claimed(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_claim_is_refused_until_the_first_ends(tmp_path) -> None:
    with claimed(tmp_path), pytest.raises(ValueError, match="is being trained right now"):
        claimed(tmp_path).__enter__()
    with claimed(tmp_path):
        pass


def test_a_killed_process_lets_go(tmp_path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(ValueError, match="by another program"):
        claimed(tmp_path).__enter__()
    holder.kill()
    holder.wait()
    with claimed(tmp_path):
        pass


def test_a_run_cannot_be_resumed_while_it_trains(tmp_path) -> None:
    """What happens when somebody takes a slow run for dead; the run itself notices nothing."""
    told = []
    second = ToyHost()

    def on_step(report, recorder) -> None:
        if report.step == 6:
            with pytest.raises(ValueError, match="right now") as caught:
                run_job(job(tmp_path, host=second, resume=True))
            told.append(str(caught.value).splitlines()[0])

    first = run_job(job(tmp_path, hooks=Hooks(on_step=on_step)))
    assert told == [
        "the run toy is being trained right now by another program: wait for its end, or turn "
        "resume off to start a new run beside it"
    ]
    assert second.images_encoded == 0
    assert first.report.model_hash == run_job(job(tmp_path / "b")).report.model_hash
