"""Replay recorded runs of the published optimizers: same gradients and losses, same parameters.

The records (format ``optim-golden/1``) were made on CPU in float32 by the unmodified reference
classes; README.md beside this file names repository, commit and blob of each. Nothing is random.
"""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from trustopt.optim import AutoTrustGO, EmoClan, EmoFact, EmoLynx, EmoNavi, EmoNeco, EmoZeal

HERE = Path(__file__).parent
UPDATE_TOLERANCE = 1e-5  # of a tensor's largest displacement so far
EPS32 = torch.finfo(torch.float32).eps
CLASSES = {
    "emoclan": EmoClan,
    "emofact": EmoFact,
    "emolynx": EmoLynx,
    "emonavi": EmoNavi,
    "emoneco": EmoNeco,
    "emozeal": EmoZeal,
}
CASES = [
    (path.stem, case["name"])
    for path in sorted(HERE.glob("*.json"))
    for case in json.loads(path.read_text())["cases"]
]


def test_every_record_is_here() -> None:
    assert len({name for name, _ in CASES}) == 12
    assert len(CASES) == 168


@pytest.mark.parametrize(("name", "case_name"), CASES)
def test_replay(name: str, case_name: str) -> None:
    meta = json.loads((HERE / f"{name}.json").read_text())
    tensors = load_file(HERE / f"{name}.safetensors")
    case = next(case for case in meta["cases"] if case["name"] == case_name)

    replay = Replay(name, meta, tensors, case)
    snapshots, first_stop = replay.run()

    assert worst_error(meta, tensors, case, snapshots) <= 1.0
    if not name.startswith("autotrustgo"):
        # The published v3.0 window counts tensors, not steps; ours counts steps, as v3.1 and on.
        assert first_stop == case["first_should_stop_per_step"]
    replay.check_signals()


class Replay:
    """One recorded run, driven again."""

    def __init__(self, name: str, meta: dict, tensors: dict, case: dict) -> None:
        self.name, self.meta, self.tensors, self.case = name, meta, tensors, case
        shapes = [p["shape"] for p in meta["params"]]
        self.sizes = [torch.Size(shape).numel() for shape in shapes]
        self.params = [
            torch.nn.Parameter(values.reshape(shape).clone())
            for values, shape in zip(tensors["init"].split(self.sizes), shapes, strict=True)
        ]
        self.optimizer = self.build()
        self.signals: list[dict[str, float]] = []

    def build(self) -> torch.optim.Optimizer:
        groups = self.case.get("groups") or [{"params": range(len(self.params))}]
        groups = [
            {"params": [self.params[i] for i in group["params"]], **as_tuples(group)}
            for group in groups
        ]
        hyper = as_tuples({"overrides": self.case["hyper"]})
        if self.name.startswith("autotrustgo"):
            return AutoTrustGO(groups, formulation="published", **hyper)
        stem, version = self.name.split("_")
        return CLASSES[stem](groups, version={"v30": "3.0", "v36": "3.6"}[version], **hyper)

    def run(self) -> tuple[torch.Tensor, int | None]:
        """Return the parameters at the recorded steps, and the first step of ``should_stop``."""
        case, first_stop, snapshots = self.case, None, []
        base_lrs = [group["lr"] for group in self.optimizer.param_groups]
        without_grad = {tuple(pair) for pair in case.get("none_grads", [])}
        for step in range(1, case["steps"] + 1):
            for group, lr in zip(self.optimizer.param_groups, base_lrs, strict=True):
                group["lr"] = lr * (case["lr_factor"][step - 1] if case.get("lr_factor") else 1.0)
            grads = self.tensors[f"grads/{case['gradset']}"][step - 1].split(self.sizes)
            for i, (p, grad) in enumerate(zip(self.params, grads, strict=True)):
                p.grad = None if (step, i) in without_grad else grad.reshape(p.shape).clone()
            self.optimizer.step(loss=case["losses"] and case["losses"][step - 1])
            self.signals.append({k: float(v) for k, v in self.optimizer.signals().items()})
            if first_stop is None and getattr(self.optimizer, "should_stop", False):
                first_stop = step
            if step in case["snapshots"]:
                snapshots.append(torch.cat([p.detach().reshape(-1) for p in self.params]))
        return torch.stack(snapshots), first_stop

    def check_signals(self) -> None:
        """Compare what we report with what was recorded, where both are one number a step."""
        ours = {"threshold": "thr", "drive": "emoDrive"}
        compared = 0
        for name in self.signals[-1]:
            key = f"sig/{self.case['name']}/{ours.get(name, name)}"
            recorded = self.tensors.get(key)
            if recorded is None or recorded.dim() != 1:
                continue
            for step, (signals, value) in enumerate(zip(self.signals, recorded, strict=True)):
                if value.isfinite() and name in signals:
                    assert signals[name] == pytest.approx(float(value), rel=1e-5, abs=2e-6), (
                        name,
                        step,
                    )
                    compared += 1
        assert compared or self.case["losses"] is None or self.case.get("per_param")


def as_tuples(group: dict) -> dict:
    overrides = group.get("overrides", {})
    return {k: tuple(v) if isinstance(v, list) else v for k, v in overrides.items()}


def worst_error(meta: dict, tensors: dict, case: dict, got: torch.Tensor) -> float:
    """Largest error in units of what rounding allows: 1e-5 of the way gone, and one rounding of
    the parameter each step.
    """
    expected, init = tensors[f"out/{case['name']}"].double(), tensors["init"].double()
    sizes = [torch.Size(p["shape"]).numel() for p in meta["params"]]
    if not got.isfinite().all():
        return float("inf")
    worst, way = 0.0, [0.0] * len(sizes)
    for k, step in enumerate(case["snapshots"]):
        rows = (got[k].double(), expected[k], init)
        for i, (ours, theirs, start) in enumerate(
            zip(*(row.split(sizes) for row in rows), strict=True)
        ):
            way[i] = max(way[i], float((theirs - start).abs().max()))
            error = float((ours - theirs).abs().max())
            allowed = UPDATE_TOLERANCE * way[i] + EPS32 * (step + 8) * float(theirs.abs().max())
            worst = max(worst, error / (allowed + 1e-30))
    return worst
