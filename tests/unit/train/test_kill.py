"""Kill -9 at random steps, then resume: nothing differs from a run that was left alone."""

import random
import subprocess
import sys
from pathlib import Path

from trustopt.signals import load_signals

SCRIPT = Path(__file__).parent / "toy.py"
ROOT = Path(__file__).parents[3]
STEPS = 40


def start(folder: Path, optimizer: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), str(folder), str(STEPS), optimizer],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin"},
        stdout=subprocess.PIPE,
        text=True,
    )


def run_until_killed(folder: Path, optimizer: str, kill_after: int | None) -> list[int]:
    """Run the script; kill it as soon as it reports a step beyond ``kill_after`` more."""
    process = start(folder, optimizer)
    steps: list[int] = []
    for line in process.stdout:
        steps.append(int(line))
        if kill_after is not None and len(steps) >= kill_after:
            process.kill()
    process.wait()
    assert process.returncode == (0 if kill_after is None else -9)
    return steps


def test_kill_and_resume_is_bit_identical(tmp_path) -> None:
    optimizer = "emonavi"  # its loss averages are the state most easily lost
    chance = random.Random(optimizer)
    run_until_killed(tmp_path / "straight", optimizer, None)

    lost = []
    last = 0
    for _ in range(3):
        steps = run_until_killed(tmp_path / "killed", optimizer, chance.randint(4, 11))
        lost.append(last + 1 - steps[0])
        last = steps[-1]
    rest = run_until_killed(tmp_path / "killed", optimizer, None)

    # A state is saved every 3 steps; the process may have gone one further than it told us.
    assert all(gone <= 3 for gone in [*lost, last + 1 - rest[0]])
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    name = Path("loras") / "toy.safetensors"
    assert (straight / name).read_bytes() == (killed / name).read_bytes()
    assert [p.name for p in (killed / "loras").iterdir()] == ["toy.safetensors"]
    one = load_signals(straight / "runs" / "toy" / "signals.jsonl")
    two = load_signals(killed / "runs" / "toy" / "signals.jsonl")
    assert one.steps.tolist() == two.steps.tolist() == list(range(1, STEPS + 1))
    assert one.series("loss").tolist() == two.series("loss").tolist()
