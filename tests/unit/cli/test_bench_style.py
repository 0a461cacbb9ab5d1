import json

import numpy as np
import pytest

from trustopt.cli import bench_style
from trustopt.cli.style_bench import learned
from trustopt.cli.style_bench.contest import CONTENDERS, best_rate, trials
from trustopt.cli.style_bench.judge import Verdict, judge
from trustopt.cli.style_bench.packages import read_package
from trustopt.cli.style_bench.table import interval, style_table, when_fitted
from trustopt.cli.style_bench.tasks import read_task
from trustopt.optim import OPTIMIZERS


def test_pictures_are_split_without_overlap_and_never_otherwise(package):
    task = read_task(package, trained=4, held_out=5)
    trained = {sample.caption for sample in task.training.samples}
    assert len(trained) == 4
    assert len(set(task.names)) == 5
    assert not trained & set(task.names)
    assert "square 9" not in trained | set(task.names)  # the package has no picture of it
    assert task.prompts[0] == f"twemoji, {task.names[0]}"
    assert task.truth[0][0, 0].tolist() == [255, 255, 255]  # on white
    assert read_task(package, trained=4, held_out=5).names == task.names


def test_too_few_pictures_and_another_folder_are_refused(package, tmp_path):
    with pytest.raises(ValueError, match="has 9 fitting pictures, 30 are needed"):
        read_task(package, trained=10, held_out=20)
    with pytest.raises(ValueError, match="npm pack emoji-datasource-twitter"):
        read_task(tmp_path / "nothing")


def test_a_subject_is_its_faces_and_other_things_are_not_of_the_task(both_packages):
    twitter, google = both_packages
    noto = read_package(google, "--noto")
    task = read_task(twitter, "subject", trained=7, held_out=5, noto=noto)
    shown = {sample.caption for sample in task.training.samples} | set(task.names)
    assert shown == {f"face {index}" for index in range(11, 23)}
    assert task.purpose == "character"
    assert task.prompts[0] == f"zed, {task.names[0]}"
    assert task.others is not None
    assert not task.others.trigger_word
    assert {s.caption for s in task.others.samples} == {f"square {index}" for index in range(10)}
    assert task.size == [7, 5, 10]

    style = read_task(twitter, trained=4, held_out=3, noto=noto)
    assert style.others is not None
    chosen = {sample.caption for sample in style.training.samples} | set(style.names)
    assert {s.caption for s in style.others.samples} == {
        name for index in range(10) if (name := f"square {index}") not in chosen
    }
    with pytest.raises(ValueError, match="has 12 fitting pictures, 36 are needed"):
        read_task(twitter, "subject")


def test_equal_pictures_are_at_no_distance_and_flat_ones_lose_their_edges():
    true = np.zeros((16, 16, 3), np.uint8)
    true[:, 8:] = 255
    same, flat = judge([true], [true]), judge([np.full_like(true, 128)], [true])
    assert (same.rmse, same.edge_distance, same.edge_energy) == (0.0, 0.0, 1.0)
    assert flat.edge_energy == pytest.approx(0.0, abs=1e-12)
    assert flat.edge_distance == pytest.approx(1.0)
    assert flat.rmse == pytest.approx(0.5, abs=0.01)
    half = true // 2  # the same edge at half its strength
    assert judge([half], [true]).edge_energy == pytest.approx(127 / 255)


def test_the_interval_is_students():
    mean, half = interval([1.0, 2.0, 3.0])
    assert mean == 2.0
    assert half == pytest.approx(4.30 / 3**0.5)
    assert interval([5.0]) == (5.0, None)


def test_every_contender_is_an_optimizer_with_options_it_knows():
    for contender in CONTENDERS.values():
        known = {option.name for option in OPTIMIZERS[contender.optimizer].options}
        assert set(contender.options) <= known


def test_rates_are_half_a_decade_apart_around_the_middle():
    lrs = [trial.lr for trial in trials("adamw", [0], 3, 10)]
    assert lrs == [0.00063, 0.002, 0.0063]
    assert [t.seed for t in trials("adamw", [0, 1], 1, 10)] == [0, 1]


def result(lr, held_out, seed=0, stop=None):
    numbers = dict.fromkeys(("best", "gap", "rmse", "edge_distance", "edge_energy"), 0.5)
    return {"contender": "adamw", "lr": lr, "seed": seed, "held_out": held_out, **numbers} | {
        "best_step": 20,
        "curve": [[0, 0.6, 0.6], [30, 0.4, 0.5], [60, 0.32, held_out]],
        "before": 0.6,
        "stop_step": stop,
    }


def test_the_table_shows_the_best_rate_with_its_spread():
    results = [result(0.1, 0.4), result(0.2, 0.2), result(0.2, 0.3, seed=1, stop=40)]
    assert best_rate(results, "adamw") == 0.2
    lucky = [*results, result(0.3, 0.1)]  # one seed's luck is no rate's mean
    assert best_rate(lucky, "adamw") == 0.2
    assert best_rate(lucky, "lion") is None
    base, line = style_table(results, Verdict(0.3, 1.4, 1.0)).splitlines()[2:]
    assert base.startswith("| before training | - | - | 0.6000 |")
    assert base.endswith("| 0.3000 | 1.4000 | 1.0000 | - | - | - |")
    spread = 12.71 * 0.1 / 2**0.5 / 2**0.5
    assert line.startswith(f"| adamw | 0.2 (end of range) | 2 | 0.2500 ± {spread:.4f} |")
    assert line.endswith("| 0.3750 ± 0.3178 | - | 40 |")


def test_the_held_out_loss_is_read_where_the_trained_one_is_equal():
    assert when_fitted(result(0.1, 0.4)) == pytest.approx(0.5 + (0.4 - 0.5) * 0.5)
    assert when_fitted({"curve": [[0, 0.6, 0.6], [30, 0.4, 0.5]]}) is None


def test_losses_are_compared_seed_by_seed():
    results = [result(0.1, 0.4), result(0.1, 0.2, seed=1)]
    results += [result(0.1, 0.5) | {"contender": "lion"}]
    results += [result(0.1, 0.32, seed=1) | {"contender": "lion"}]
    line = style_table(results, Verdict(0.3, 1.4, 1.0)).splitlines()[-1]
    half = 12.71 * 0.01 * 2**0.5 / 2**0.5
    assert line.endswith(f"| +0.1100 ± {half:.4f} | - |")


def test_trials_are_run_judged_and_not_repeated(package, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["--pictures", str(package), "--out", str(out), "--steps", "4", "--seeds", "1"]
    arguments += ["--rates", "1", "--trained", "4", "--held-out", "2", "--only", "emolynx"]
    assert bench_style.main(arguments) == 0
    task = read_task(package, trained=4, held_out=2)
    (told,) = bench_style.read_results(out, 4, task)
    assert told["contender"] == "emolynx"
    assert told["held_out"] != told["before"]
    grown = (told["held_out"] - told["before"]) - (told["train"] - told["train_before"])
    assert told["gap"] == pytest.approx(grown)
    assert told["best"] <= told["held_out"]
    assert [step for step, _, _ in told["curve"]] == [0, 1, 2, 3, 4]
    assert told["curve"][-1] == [4, told["train"], told["held_out"]]
    assert (out / "samples.png").stat().st_size > 1000
    assert "| emolynx |" in (out / "table.md").read_text()

    assert bench_style.main(arguments) == 0
    assert bench_style.read_results(out, 4, task) == [told]
    assert len((out / "results.jsonl").read_text().splitlines()) == 1
    assert bench_style.read_results(out, 5, task) == []  # other settings are other trials
    assert bench_style.read_results(out, 4, read_task(package, trained=5, held_out=2)) == []


def test_a_subject_is_judged_by_what_was_learned_of_real_pictures(
    both_packages, tmp_path, capsys, monkeypatch
):
    taught, train = [], learned.train_encoder

    def quick(pairs, **given):
        taught.append(len(pairs))
        return train(pairs, steps=3, **given)

    monkeypatch.setattr(learned, "train_encoder", quick)
    twitter, google = map(str, both_packages)
    out = tmp_path / "out"
    arguments = ["--task", "subject", "--pictures", twitter, "--noto", google, "--out", str(out)]
    arguments += ["--steps", "4", "--seeds", "1", "--rates", "1", "--trained", "4"]
    arguments += ["--held-out", "3", "--only", "adamw,emolynx"]
    assert bench_style.main(arguments) == 0
    results = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert [r["contender"] for r in results] == ["adamw", "emolynx"]
    assert {r["task"] for r in results} == {"twemoji subject"}
    assert all(r["leak"] != 0.0 for r in results)  # so large a step is felt everywhere
    assert taught == [20]  # of 22 that both have a tenth is left out
    table = (out / "table.md").read_text()
    for row in ("before training", "the truth, through the autoencoder", "adamw", "emolynx"):
        assert f"\n| {row} | " in table.split("truth first")[1]
    assert "on 2 emoji it was not trained on" in table
    assert f"before: {results[0]['others_before']:.4f}." in table

    assert bench_style.main(arguments) == 0
    assert taught == [20]  # the judge is kept
    assert (out / "table.md").read_text() == table
    style = read_task(both_packages[0], trained=4, held_out=3)
    assert bench_style.read_results(out, 4, style) == []  # another task's


def test_a_share_that_is_none_is_refused(capsys):
    with pytest.raises(SystemExit):
        bench_style.main(["--pictures", "x", "--share", "2/2"])
    assert "0 <= I < N, got '2/2'" in capsys.readouterr().err


def test_openmoji_is_drawn_from_its_package(tmp_path):
    pytest.importorskip("resvg_py")
    package = tmp_path / "package"
    (package / "data").mkdir(parents=True)
    (package / "color" / "svg").mkdir(parents=True)
    rows = []
    for index in range(6):
        row = {
            "hexcode": f"1F60{index}",
            "annotation": f"Disc {index}",
            "group": "objects",
            "subgroups": "tool",
        }
        rows.append(row | {"skintone": 2 if index == 5 else ""})
        (package / "color" / "svg" / f"1F60{index}.svg").write_text(
            '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 72 72">'
            f'<circle cx="36" cy="36" r="{10 + 4 * index}" fill="#c00"/></svg>'
        )
    (package / "data" / "openmoji.json").write_text(json.dumps(rows))
    task = read_task(package, trained=3, held_out=2)
    assert task.size == [3, 2, 0]
    assert all(prompt.startswith("openmoji, disc ") for prompt in task.prompts)
    for picture in task.truth:
        assert tuple(picture[32, 32]) == (204, 0, 0)
        assert tuple(picture[0, 0]) == (255, 255, 255)
    with pytest.raises(ValueError, match="has 5 fitting pictures, 6 are needed"):
        read_task(package, trained=4, held_out=2)
