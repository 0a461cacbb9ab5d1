"""``trustopt bench style``: which optimizer teaches a style or a subject best, by held-out truth.

The embedded tiny SDXL knows Google's emoji by name. A LoRA learns Twitter's style from twenty
pictures, or one subject, the round yellow face, from twelve expressions (--task subject); others,
never trained on, are known, too: so the loss on them, and the distance of what is drawn from what
is true, can be measured. With Google's pictures (--noto) a small encoder is trained as judge: it
says whether the true picture is the nearest of all to what is drawn (prompt fidelity), and how far
they are apart; and the leak is measured, by how much the model knows other things worse. All
contenders take the same number of
steps, each at several learning rates, over several seeds, with the schedule that the preset gives
it (cosine, or constant where an optimizer wants that). The best rate is chosen by the held-out loss
that the table shows, which flatters all of them alike. A blank page is at an edge distance of 1:
above it, lines are drawn, but not where they belong.
"""

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..hosts.diffusers_host import DiffusersHost
from ..hosts.loading import load_tiny
from ..optim import OPTIMIZERS
from ..signals.picture_grid import labelled_grid
from .demo_job import one_thread
from .style_bench import tasks
from .style_bench.contest import CONTENDERS, best_rate, trials
from .style_bench.fidelity_table import fidelity_table
from .style_bench.judge import judge
from .style_bench.learned import as_tensor, find_judge, told
from .style_bench.packages import Package, read_package
from .style_bench.table import style_table
from .style_bench.tasks import KINDS, Task, read_task
from .style_bench.trial import Trial, draw, run_trial

SHOWN = 6
"""Held-out pictures in the grid."""


def main(arguments: Sequence[str]) -> int:
    """Run the benchmark and return 0."""
    given = parsed(arguments)
    noto = None if given.noto is None else read_package(given.noto, "--noto")
    task = read_task(
        given.pictures, given.task, trained=given.trained, held_out=given.held_out, noto=noto
    )
    given.out.mkdir(parents=True, exist_ok=True)
    with one_thread():
        host = load_tiny("sdxl")
        drawn = draw(host, task.prompts)
        np.save(given.out / "base.npy", np.stack(drawn))
        for trial in planned(given, task):
            attempt(trial, task, host, given.out)
        results = read_results(given.out, given.steps, task)
        table = style_table(results, judge(drawn, task.truth))
        if noto is not None:
            shown = {"before training": drawn, **references(task, host)}
            table += "\n" + learned_report(noto, given, task, results, shown)
    (given.out / "table.md").write_text(table, encoding="utf-8")
    write_grid(task, results, given.out)
    print(table)
    print(f"results.jsonl, table.md and samples.png are in {given.out}")
    return 0


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the command's arguments."""
    parser = argparse.ArgumentParser(prog="trustopt bench style", description=__doc__)
    tasks.add_arguments(parser)
    parser.add_argument("--task", choices=list(KINDS), default="style", help="what is learned")
    parser.add_argument(
        "--noto",
        type=Path,
        help="folder of the unpacked npm package emoji-datasource-google: adds the learned judge, "
        "and the leak on pictures of other things",
    )
    parser.add_argument("--out", type=Path, default=Path("style-bench"), help="results go here")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rates", type=int, default=3, help="learning rates, half a decade apart")
    parser.add_argument("--only", default="", help="contenders whose name contains one of these")
    parser.add_argument(
        "--best-rate",
        action="store_true",
        help="after the first seed, only the rate that was best with it",
    )
    parser.add_argument(
        "--share", default="0/1", help="I/N: of N processes that share --out, this is the I-th"
    )
    given = parser.parse_args(arguments)
    index, _, count = given.share.partition("/")
    if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        parser.error(f"--share must be I/N with 0 <= I < N, got {given.share!r}")
    given.share = (int(index), int(count))
    return given


def planned(given: argparse.Namespace, task: Task) -> list[Trial]:
    """Return this process's trials that are not done yet, seed by seed."""
    results = read_results(given.out, given.steps, task)
    done = {(r["contender"], r["lr"], r["seed"], r["steps"]) for r in results}
    wanted: list[Trial] = []
    for name, contender in CONTENDERS.items():
        if not any(part.strip() in name for part in given.only.split(",")):
            continue
        if not OPTIMIZERS[contender.optimizer].is_available:
            print(f"{name}: left out, its package is not installed")
            continue
        best = best_rate(results, name) if given.best_rate else None
        tried = trials(name, range(given.seeds), given.rates, given.steps)
        wanted += [t for t in tried if t.seed == 0 or best is None or t.lr == best]
    wanted.sort(key=lambda trial: trial.seed)
    index, count = given.share
    return [trial for trial in wanted[index::count] if trial.key not in done]


def attempt(trial: Trial, task: Task, host: DiffusersHost, out: Path) -> None:
    """Run a trial, add its numbers to the results, and keep its pictures."""
    with tempfile.TemporaryDirectory() as folder:
        result = run_trial(trial, task, host, Path(folder))
    np.save(out / picture_file(result), np.stack(result.pop("drawn")))
    with (out / "results.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(result) + "\n")
    print(
        f"{trial.contender:<16} lr {trial.lr:<8.2g} seed {trial.seed}: held-out loss "
        f"{result['before']:.4f} -> {result['held_out']:.4f}, trained {result['train']:.4f}, "
        f"RMSE {result['rmse']:.4f}, edges {result['edge_distance']:.3f}, "
        f"{result['seconds']:.0f} s",
        flush=True,
    )


def learned_report(
    noto: Package,
    given: argparse.Namespace,
    task: Task,
    results: Sequence[dict[str, Any]],
    shown: Mapping[str, Sequence[np.ndarray]],
) -> str:
    """Return what the learned judge says of all drawn and other pictures, and what it is worth."""
    learned = find_judge(noto, read_package(given.pictures, "--pictures"), given.out)
    judged = []
    for result in results:
        drawn = np.load(given.out / picture_file(result))
        judged.append({**result, **asdict(learned.judge(drawn, task.truth))})
    rows = {name: learned.judge(pictures, task.truth) for name, pictures in shown.items()}
    losses = {f"{result['others_before']:.4f}" for result in results}
    lines = [told(learned.competence), f"Loss on other things before: {', '.join(losses)}."]
    return fidelity_table(judged, rows) + "\n" + "\n".join(lines[: 1 + len(losses)]) + "\n"


def references(task: Task, host: DiffusersHost) -> Mapping[str, Sequence[np.ndarray]]:
    """Return the held-out pictures as none of the contenders draws them.

    By the base, asked by plain name, without the trigger word: Google's emoji. And the truth as the
    autoencoder gives it back: nobody can be nearer.
    """
    with torch.no_grad():
        latents = host.encode_images(as_tensor(task.truth)).mean
        pixels = host.decode_latents(latents).permute(0, 2, 3, 1).numpy()
    return {
        "before training, no trigger word": draw(host, task.names),
        "the truth, through the autoencoder": list((pixels * 255.0).round().astype(np.uint8)),
    }


def read_results(out: Path, steps: int, task: Task) -> list[dict[str, Any]]:
    """Return the trials done so far, of this task, length and with as many pictures."""
    file = out / "results.jsonl"
    if not file.exists():
        return []
    results = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    wanted = (task.name, steps, task.size)
    # A version that knew one task only did not name it.
    return [r for r in results if (r.get("task"), r["steps"], r["pictures"]) == wanted]


def picture_file(result: dict[str, Any]) -> str:
    """Return the name of the file with a trial's pictures."""
    setting = [f"{result['lr']:.2g}", result["seed"], result["steps"], *result["pictures"]]
    return " ".join(map(str, [result["task"], result["contender"], *setting])) + ".npy"


def write_grid(task: Task, results: list[dict[str, Any]], out: Path) -> None:
    """Draw the first held-out pictures: the base, each contender at its best rate, the truth."""
    columns, pictures = ["before training"], [np.load(out / "base.npy")]
    for name in CONTENDERS:
        best = best_rate(results, name)
        own = [r for r in results if r["contender"] == name and r["lr"] == best]
        if own:
            columns.append(name)
            pictures.append(np.load(out / picture_file(own[0])))
    columns.append("the truth")
    pictures.append(np.stack(task.truth))
    shown = min(SHOWN, len(task.names))
    cells = [[column[row] for column in pictures] for row in range(shown)]
    labelled_grid(task.prompts[:shown], columns, cells, cell=96).save(
        out / "samples.png", optimize=True
    )
