"""Mirrors trustopt/cli/sweep.py, sweep_file.py, sweep_state.py and sweep_worker.py."""

import os
import shlex
import signal
import sys
import threading
import time

import pytest
from safetensors.torch import load_file

from trustopt.cli.main import main
from trustopt.cli.progress import Lines
from trustopt.cli.sweep import ARRAY_VARIABLES
from trustopt.cli.sweep_file import EXAMPLE, read_sweep_file
from trustopt.cli.sweep_state import state_of
from trustopt.cli.sweep_worker import Relay

TWO = """
job = "squares.toml"
[grid]
optimizer.name = ["emonavi", "adamw"]
"""


@pytest.fixture
def sweep_of(job_file):
    """Return what writes a sweep file beside the job file and returns its path."""

    def write(text: str):
        path = job_file.with_name("sweep.toml")
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture(autouse=True)
def no_scheduler(monkeypatch):
    """Run outside of any scheduler and launcher."""
    for name in (*ARRAY_VARIABLES, "WORLD_SIZE", "RANK"):
        monkeypatch.delenv(name, raising=False)


def lora(job_file, name: str) -> dict:
    """Return the tensors of a run's LoRA."""
    return load_file(job_file.parent / "loras" / f"{name}.safetensors")


def test_a_sweep_is_every_set_with_every_combination(sweep_of) -> None:
    text = """
    job = "squares.toml"
    [grid]
    "optimizer.name" = ["emonavi", "adamw"]
    plan.lr = [1e-4, 0.002]
    [[jobs]]
    [[jobs]]
    plan.rank = 4
    plan.alpha = 2
    plan.flip = true
    """
    jobs = read_sweep_file(sweep_of(text)).jobs
    assert [job.number for job in jobs] == list(range(1, 9))
    assert [job.name for job in jobs[:4]] == [
        "squares-emonavi-lr_0.0001",
        "squares-emonavi-lr_0.002",
        "squares-adamw-lr_0.0001",
        "squares-adamw-lr_0.002",
    ]
    assert jobs[7].name == "squares-rank_4-alpha_2-flip-adamw-lr_0.002"
    assert dict(jobs[7].file.plan)["rank"] == 4
    assert jobs[7].file.plan["lr"] == 0.002
    assert jobs[7].file.plan["flip"] is True
    assert jobs[7].file.optimizer.name == "adamw"
    assert "rank" in jobs[0].file.plan  # the job file's own
    assert jobs[0].file.plan["rank"] == 2


def test_tables_texts_and_lists_are_values_too(sweep_of) -> None:
    text = """
    job = "squares.toml"
    [grid]
    adapter.ranks = [{}, {"img_attn.*" = 8}]
    samples.prompts = [["a, b", "c"]]
    images.trigger_word = ["", "two words"]
    """
    jobs = read_sweep_file(sweep_of(text)).jobs
    assert [job.name for job in jobs] == [
        "squares-ranks_1-prompts_1-no_trigger_word",
        "squares-ranks_1-prompts_1-two_words",
        "squares-ranks_2-prompts_1-no_trigger_word",
        "squares-ranks_2-prompts_1-two_words",
    ]
    assert jobs[3].file.adapter["ranks"] == {"img_attn.*": 8}
    assert list(jobs[3].file.samples.prompts) == ["a, b", "c"]


def test_names_that_clash_or_are_too_long_are_numbered(sweep_of) -> None:
    clash = 'job = "squares.toml"\n[grid]\nimages.trigger_word = ["a b", "a  b"]\n'
    assert [job.name for job in read_sweep_file(sweep_of(clash)).jobs] == [
        "squares-a_b-001",
        "squares-a_b-002",
    ]
    long = f'job = "squares.toml"\n[grid]\nimages.trigger_word = ["{"x" * 200}"]\n'
    (job,) = read_sweep_file(sweep_of(long)).jobs
    assert job.name.endswith("xx-001")
    assert len(job.name) == 124


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", 'lacks the job file that its runs share: job = "job.toml"'),
        ('job = "none.toml"', "none.toml cannot be read"),
        ('job = "squares.toml"\ngird = 1', "does not know 'gird'; it knows job, grid, jobs"),
        ('job = "squares.toml"\ngrid = 1', "grid must be a table [grid], got 1"),
        ('job = "squares.toml"\njobs = []', "jobs must be tables, each begun with [[jobs]]"),
        ('job = "squares.toml"\n[grid]\nplan.lr = 1', "[grid] plan.lr must be a list of the"),
        ('job = "squares.toml"\n[grid]\nplan.lr = []', "[grid] plan.lr must be a list of the"),
        ('job = "squares.toml"\n[grid]\nplan.lr = [1, 1]', "runs 1 and 2 are the same"),
        ('job = "squares.toml"\n[grid]\nplan.lr = [1, -1]', "run 2: squares.toml [plan] lr"),
        ('job = "squares.toml"\n[grid]\nlr = [1]', "run 1: lr=1 must be table.key=value"),
        ('job = "squares.toml"\n[grid]\nplan.lrr = [1]', "does not know 'lrr'"),
        (
            'job = "squares.toml"\n[grid]\nplan.lr = [1]\n[[jobs]]\nplan.lr = 2',
            "sets plan.lr in [grid] and in [[jobs]]",
        ),
        ('job = "squares.toml"\n[grid', "is no TOML"),
    ],
)
def test_what_cannot_work_is_refused_before_any_run(
    sweep_of, job_file, capsys, text, words
) -> None:
    assert main(["sweep", str(sweep_of(text))]) == 2
    assert words in capsys.readouterr().err.splitlines()[0]
    assert not (job_file.parent / "runs").exists()


def test_without_a_sweep_file_it_says_how_to_get_one(capsys, tmp_path) -> None:
    assert main(["sweep"]) == 2
    assert "trustopt sweep --example" in capsys.readouterr().err
    assert main(["sweep", str(tmp_path / "none.toml")]) == 2
    assert "trustopt sweep --example" in capsys.readouterr().err
    assert main(["sweep", "--example"]) == 0
    assert capsys.readouterr().out == EXAMPLE


def test_the_example_is_a_sweep(sweep_of, job_file) -> None:
    job_file.rename(job_file.with_name("job.toml"))
    assert len(read_sweep_file(sweep_of(EXAMPLE)).jobs) == 4


def test_a_failed_run_leaves_the_others_alone_and_is_tried_again(
    sweep_of, job_file, capfd, monkeypatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.getcwd())
    path = sweep_of(TWO + "optimizer.options.use_shadow = [true]\n")  # adamw has no such option
    assert main(["sweep", str(path)]) == 1
    out, err = capfd.readouterr()
    assert "1 of 2 runs finished" in out
    assert "   1  squares-emonavi-use_shadow  finished\n" in out
    assert "   2  squares-adamw-use_shadow    failed, exit code 2\n" in out
    assert "use_shadow" in err
    assert (job_file.parent / "sweep.png").stat().st_size > 1000
    assert main(["sweep", str(path)]) == 1
    assert "squares-emonavi-use_shadow: finished already" in capfd.readouterr().out
    assert main(["sweep", str(path), "--list"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert [line.split()[:3] for line in lines] == [
        ["run", "state", "name"],
        ["1", "finished", "squares-emonavi-use_shadow"],
        ["2", "new", "squares-adamw-use_shadow"],
    ]


def test_a_run_of_a_sweep_is_that_of_train_bit_for_bit(sweep_of, job_file, monkeypatch) -> None:
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "2")
    assert main(["sweep", str(sweep_of(TWO)), "--index", "auto"]) == 0
    alone = ["--set", "optimizer.name=adamw", "--set", "output.name=alone"]
    assert main(["train", str(job_file), *alone]) == 0
    one, other = lora(job_file, "squares-adamw"), lora(job_file, "alone")
    assert one.keys() == other.keys()
    assert all((one[key] == other[key]).all() for key in other)


def test_a_stopped_run_goes_on_and_a_finished_one_is_skipped(
    sweep_of, job_file, capsys, monkeypatch
) -> None:
    shown = Lines.step

    def step(self, report) -> None:
        shown(self, report)
        if report.step == 2:
            signal.raise_signal(signal.SIGINT)

    path = sweep_of(TWO)
    with monkeypatch.context() as patch:
        patch.setattr(Lines, "step", step)
        assert main(["sweep", str(path), "--index", "1"]) == 3
    assert state_of(read_sweep_file(path).jobs[0]) == "part-way"
    assert main(["sweep", str(path), "--index", "1"]) == 0
    assert "resuming squares-emonavi after step 2" in capsys.readouterr().out
    before = lora(job_file, "squares-emonavi")
    assert main(["sweep", str(path), "--index", "1"]) == 0
    assert "run 1, squares-emonavi, is finished already" in capsys.readouterr().out
    assert main(["train", str(job_file), "--set", "output.name=alone"]) == 0
    other = lora(job_file, "alone")
    assert all((before[key] == other[key]).all() for key in other)


def test_a_run_begun_with_other_values_is_refused(sweep_of, job_file, capsys) -> None:
    path = sweep_of(TWO)
    assert main(["sweep", str(path), "--index", "1"]) == 0
    job_file.write_text(job_file.read_text().replace("steps = 4", "steps = 5"))
    assert main(["sweep", str(path)]) == 2
    first = capsys.readouterr().err.splitlines()[0]
    assert "run squares-emonavi exists with plan.steps = 4, and now it is 5" in first
    job_file.write_text(job_file.read_text().replace("steps = 5", "steps = 4"))
    job_file.write_text(job_file.read_text() + "\n[output]\ntensorboard = true\n")
    assert state_of(read_sweep_file(path).jobs[0]) == "finished"


@pytest.mark.parametrize("variable", ARRAY_VARIABLES)
def test_each_scheduler_says_which_run(sweep_of, capsys, monkeypatch, variable) -> None:
    monkeypatch.setenv(variable, "3")
    assert main(["sweep", str(sweep_of(TWO)), "--index", "auto"]) == 2
    assert "must be a number from 1 to 2" in capsys.readouterr().err
    monkeypatch.setenv(variable, "undefined")  # Grid Engine's word outside of an array
    assert main(["sweep", str(sweep_of(TWO)), "--index", "auto"]) == 2
    assert "is set: start it as an array, or give a number" in capsys.readouterr().err


@pytest.mark.parametrize("number", ["0", "3", "-1", "one", ""])
def test_a_number_that_no_run_has_is_refused(sweep_of, capsys, number) -> None:
    assert main(["sweep", str(sweep_of(TWO)), f"--index={number}"]) == 2
    assert "an array of all of them is 1-2" in capsys.readouterr().err


def test_commands_are_for_a_shell(sweep_of, capsys) -> None:
    path = sweep_of(TWO)
    launcher = "torchrun --nproc-per-node 4"
    assert main(["sweep", str(path), "--commands", "--launch", launcher]) == 0
    lines = capsys.readouterr().out.splitlines()
    rest = ["-m", "trustopt", "sweep", str(path), "--index"]
    assert [shlex.split(line) for line in lines] == [
        [*launcher.split(), *rest, number] for number in ("1", "2")
    ]
    assert main(["sweep", str(path), "--commands"]) == 0
    assert capsys.readouterr().out.splitlines()[0].startswith(shlex.quote(sys.executable))


def test_several_processes_do_not_each_work_it_off(sweep_of, capsys, monkeypatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["sweep", str(sweep_of(TWO))]) == 2
    assert "each would work off the whole sweep" in capsys.readouterr().err


def test_a_launcher_without_command_lines_is_refused(sweep_of, capsys) -> None:
    assert main(["sweep", str(sweep_of(TWO)), "--launch", "torchrun -n 2"]) == 2
    assert "--commands --launch 'torchrun -n 2' | sh" in capsys.readouterr().err


def test_a_schedulers_sigterm_reaches_the_run() -> None:
    with Relay() as relay:
        timer = threading.Timer(5.0, os.kill, (os.getpid(), signal.SIGTERM))
        timer.start()
        assert relay.run(time.sleep, 600) == -signal.SIGTERM
        timer.join()
    assert relay.asked
