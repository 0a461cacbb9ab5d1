"""Mirrors trustopt/train/ranks.py, processes.py and follow.py: several processes, one LoRA.

Real processes over gloo. Whatever goes wrong in one of them, none may hang.
"""

import multiprocessing

import pytest
import several
import torch
from safetensors.torch import load_file
from several import Launcher, toy_job

from trustopt.config import AdapterConfig, DataConfig, OptimizerConfig
from trustopt.signals import load_signals
from trustopt.train.loop import accumulated
from trustopt.train.ranks import Ranks
from trustopt.train.run import build_run, check, encode, run_job

pytestmark = pytest.mark.skipif(
    "forkserver" not in multiprocessing.get_all_start_methods()
    or not torch.distributed.is_available(),
    reason="needs a system that can fork, and torch.distributed",
)


@pytest.fixture(scope="module")
def launcher() -> Launcher:
    return Launcher()


def results(ended: list) -> list:
    """Return what all processes returned; none may have failed, or hung (None)."""
    assert [(one.exit_code, one.error) for one in ended] == [(0, "")] * len(ended)
    return [one.result for one in ended]


def signals_of(folder):
    return load_signals(folder / "runs" / "toy" / "signals.jsonl")


def assert_same_run(one, two, *, within: float = 1e-6) -> None:
    """Compare LoRAs and signals of two folders, relative to the largest number of a tensor."""
    first, second = (load_file(folder / "loras" / "toy.safetensors") for folder in (one, two))
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        error = (second[name] - tensor).abs().max() / tensor.abs().max().clamp_min(1e-30)
        assert error <= within, name
    signals = [signals_of(folder) for folder in (one, two)]
    assert signals[0].steps.tolist() == signals[1].steps.tolist()
    assert signals[0].names == signals[1].names
    for name in set(signals[0].names) - {"seconds"}:
        columns = [torch.tensor(s.series(name)) for s in signals]
        torch.testing.assert_close(*columns, rtol=1e-4, atol=1e-6, equal_nan=True, msg=name)


def gradient(ranks, settings) -> dict:
    made = toy_job(settings.pop("folder"), **settings)
    made.ranks = ranks
    adapters = check(made)
    run = build_run(made, encode(made, adapters), adapters)
    with torch.no_grad():
        for number, parameter in enumerate(adapters.parameters()):
            parameter.add_(0.1 * (number + 1))  # B begins at zero, and A then has no gradient
    with made.host.session(adapters.layers, checkpointing=False):
        found = accumulated(run)
    gradients = [p.grad.tolist() for p in adapters.parameters()]
    return {
        "gradients": gradients,
        "losses": found.weighted_losses,
        "levels": found.levels.tolist(),
    }


@pytest.mark.parametrize(("count", "accumulation"), [(2, 1), (2, 3), (3, 2)])
def test_the_gradient_is_that_of_one_process(launcher, tmp_path, count, accumulation) -> None:
    settings = {
        "folder": tmp_path,
        "batch_size": 2,
        "max_grad_norm": 0.0,
        "adapter": AdapterConfig(rank=2, alpha=2.0, dropout=0.2, rank_dropout=0.2),
    }
    alone = gradient(Ranks(), {**settings, "accumulation": accumulation * count})
    ranks = results(launcher.run(count, gradient, {**settings, "accumulation": accumulation}))

    assert all(one == ranks[0] for one in ranks)
    assert ranks[0]["levels"] == alone["levels"]
    assert ranks[0]["losses"] == alone["losses"]
    for ours, expected in zip(ranks[0]["gradients"], alone["gradients"], strict=True):
        ours, expected = torch.tensor(ours), torch.tensor(expected)
        assert (ours - expected).norm() <= 1e-6 * expected.norm()


RUNS = {
    "adamw": {},
    "everything": {
        "batch_size": 2,
        "accumulation": 2,
        "ema_decay": 0.9,
        "regularisation": True,
        "validate_every": 3,
        "data": DataConfig(resolution=32, validation_fraction=0.3, caption_dropout=0.3, flip=True),
        "optimizer": OptimizerConfig(name="emonavi"),
        "adapter": AdapterConfig(rank=2, alpha=2.0, dropout=0.2, module_dropout=0.2),
    },
    "autotrustgo": {"optimizer": OptimizerConfig(name="autotrustgo"), "validate_every": 0},
    "fp16": {"half": True},
}


@pytest.mark.parametrize("kind", RUNS)
def test_two_processes_train_the_lora_of_one(launcher, tmp_path, kind) -> None:
    settings = RUNS[kind]
    alone = {**settings, "accumulation": 2 * settings.get("accumulation", 1)}
    run_job(toy_job(tmp_path / "one", **alone))
    ended = results(launcher.run(2, several.train, tmp_path / "two", settings))
    assert [one["status"] for one in ended] == ["finished"] * 2
    # fp16 gradients are rounded before they are added up.
    assert_same_run(tmp_path / "one", tmp_path / "two", within=1e-2 if kind == "fp16" else 1e-6)


def test_everything_is_encoded_once_and_written_by_one(launcher, tmp_path) -> None:
    ended = results(launcher.run(2, several.train, tmp_path / "two", {"cache": True}))
    assert sum(one["images encoded"] for one in ended) == 5
    assert [one["images encoded"] for one in ended] == [3, 2]
    assert sorted(caption for one in ended for caption in one["captions encoded"]) == [
        f"picture {'x' * i}".strip() for i in range(5)
    ]
    # Twelve steps each, and three more by the first, which tries the saved file.
    assert [one["passes"] for one in ended] == [15, 12]

    run_job(toy_job(tmp_path / "one", cache=True, accumulation=2))
    one, two = (
        sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
        for folder in (tmp_path / "one", tmp_path / "two")
    )
    assert one == two


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2), (2, 3)])
def test_a_run_goes_on_with_another_number_of_processes(launcher, tmp_path, before, after) -> None:
    settings = {"cache": True, "ema_decay": 0.9, "optimizer": OptimizerConfig(name="emonavi")}

    def train(count: int, **more) -> None:
        made = {**settings, "accumulation": 6 // count, **more}
        results(launcher.run(count, several.train, tmp_path / "parts", made))

    train(before, steps=5)
    train(after, steps=12, resume=True)
    run_job(toy_job(tmp_path / "straight", **settings, accumulation=6))
    assert signals_of(tmp_path / "parts").events[-1].name == "save"
    assert_same_run(tmp_path / "straight", tmp_path / "parts")


def test_another_global_batch_is_another_run(launcher, tmp_path) -> None:
    results(launcher.run(2, several.train, tmp_path, {"steps": 4}))
    with pytest.raises(ValueError, match=r"batch was \[1, 2, 1\] and is now \[1, 1, 1\]"):
        run_job(toy_job(tmp_path, resume=True))


@pytest.mark.parametrize("rank", [0, 1])
def test_a_stop_in_one_process_stops_all_and_keeps_the_lora(launcher, tmp_path, rank) -> None:
    ended = results(
        launcher.run(2, several.train, tmp_path / "two", {}, {rank: several.stops_in_step_5})
    )
    assert [one["status"] for one in ended] == ["stopped"] * 2
    run_job(toy_job(tmp_path / "one", steps=5, accumulation=2))
    assert_same_run(tmp_path / "one", tmp_path / "two")


def test_a_loss_that_is_not_finite_in_one_process_is_skipped_in_all(launcher, tmp_path) -> None:
    hitch = {1: several.overflows_in_steps_4_and_5}
    results(launcher.run(2, several.train, tmp_path, {}, hitch))
    skipped = signals_of(tmp_path).series("skipped").tolist()
    assert [step for step, was in enumerate(skipped, 1) if was] == [4, 5]
    saved = load_file(tmp_path / "loras" / "toy.safetensors")
    assert all(tensor.isfinite().all() for tensor in saved.values())


@pytest.mark.parametrize("hitch", [several.fails_in_step_7, several.killed_in_step_7])
@pytest.mark.parametrize("rank", [0, 1])
def test_when_one_process_ends_all_do_and_the_run_resumes(launcher, tmp_path, hitch, rank) -> None:
    ended = launcher.run(3, several.train, tmp_path / "a", {"save_every": 2}, {rank: hitch})
    codes = [one.exit_code for one in ended]
    assert None not in codes, f"process {codes.index(None)} hung"
    others = [one.error for number, one in enumerate(ended) if number != rank]
    if hitch is several.fails_in_step_7:
        assert ended[rank].error == "OutOfMemoryError: no memory here"
        said = f"PeerError: process {rank + 1} of 3 failed: OutOfMemoryError: no memory here"
        assert others == [said] * 2
    else:
        assert codes[rank] == -9
        assert all(error.startswith("PeerError: another process of the run") for error in others)

    states = sorted(path.name for path in (tmp_path / "a" / "runs" / "toy" / "state").iterdir())
    assert states == ["00000004", "00000006"]  # six whole steps were taken
    results(launcher.run(3, several.train, tmp_path / "a", {"resume": True, "save_every": 2}))
    results(launcher.run(3, several.train, tmp_path / "b", {"save_every": 2}))
    assert_same_run(tmp_path / "b", tmp_path / "a", within=0.0)


def test_bad_input_is_told_once(launcher, tmp_path) -> None:
    first, second = launcher.run(2, several.train, tmp_path, {"batch_size": 9})
    assert first.error.startswith("ValueError: batch_size 9")
    assert second.error.startswith("PeerError: batch_size 9")
    assert not list((tmp_path / "runs").glob("*"))


def test_what_is_wrong_in_one_process_alone_ends_all(launcher, tmp_path) -> None:
    # The first is further by then: it tries an optimizer that reads the loss of all ranks.
    settings = {"optimizer": OptimizerConfig(name="emonavi")}
    first, second = launcher.run(2, several.train, tmp_path, settings, {1: several.has_no_disk})
    assert second.error.startswith("ValueError: output folder")
    assert first.error.startswith("PeerError: process 2 of 2 failed: ValueError: output folder")


def test_what_fails_at_the_end_fails_in_all(launcher, tmp_path) -> None:
    first, second = launcher.run(2, several.train, tmp_path, {}, {0: several.disk_fills_at_the_end})
    assert first.error == "OSError: [Errno 28] No space left on device"
    assert second.error.startswith("PeerError: process 1 of 2 failed: OSError")


def exchanges(ranks) -> list:
    with_gradient, without, never = (torch.nn.Parameter(torch.zeros(2)) for _ in range(3))
    with_gradient.grad = torch.full((2,), 1.0 + ranks.rank)
    if ranks.is_first:
        without.grad = torch.ones(2)
    others = torch.tensor([ranks.rank, 10.0])
    ranks.add_up([with_gradient, without, never], others)
    words = ranks.from_first(lambda: "größe/名前")
    empty = ranks.from_first(lambda: "")
    gradients = [with_gradient.grad.tolist(), without.grad.tolist(), never.grad]
    return [*gradients, others.tolist(), words, empty]


def test_what_is_exchanged(launcher) -> None:
    expected = [[3.0, 3.0], [1.0, 1.0], None, [1.0, 20.0], "größe/名前", ""]
    assert results(launcher.run(2, exchanges)) == [expected] * 2


def test_one_process_alone_exchanges_nothing() -> None:
    ranks = Ranks()
    parameter = torch.nn.Parameter(torch.zeros(1))
    with ranks.together():
        ranks.add_up([parameter], torch.ones(1))
    assert parameter.grad is None
    assert ranks.from_first(lambda: "x") == "x"
    assert [ranks.takes(turn) for turn in range(3)] == [True] * 3
