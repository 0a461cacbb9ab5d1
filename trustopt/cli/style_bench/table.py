"""What the trials say, as a Markdown table with confidence intervals."""

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from .contest import CONTENDERS, best_rate
from .judge import Verdict

T_975 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36, 9: 2.31, 10: 2.26}
"""Student's t at 97.5 % for a number of values (one degree of freedom less)."""

COLUMNS = {
    "held-out loss": "held_out",
    "best on the way": "best",
    "at step": "best_step",
    "gap grown": "gap",
    "pixel RMSE": "rmse",
    "edge distance": "edge_distance",
    "edge energy": "edge_energy",
}

DIGITS = {"best_step": 0}
"""Behind the point; others have four."""

FIT = 0.6
"""Share of its start that the loss on the trained pictures falls to where generalisation is read.

At the end of a run who learns fast has also overfitted more; equally well fitted they compare.
"""

REFERENCE = "adamw"
"""The contender that the others' losses are compared with, seed by seed."""

Result = Mapping[str, Any]


def interval(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean and half of its 95 % confidence interval; None for a single value.

    Of more than ten values t is taken as that of ten: a little too wide.
    """
    mean = statistics.fmean(values)
    if len(values) < 2:
        return mean, None
    t = T_975[min(len(values), 10)]
    return mean, t * statistics.stdev(values) / math.sqrt(len(values))


def style_table(results: Sequence[Result], base: Verdict) -> str:
    """Return the table of losses and pixels: contenders at their best rate, best loss first.

    Args:
        results: Of trials with the same pictures and number of steps.
        base: On what the model draws before training.
    """
    rows = [row for name in CONTENDERS if (row := _row(results, name)) is not None]
    rows.sort(key=lambda row: row[0])
    fitted = f"held-out, trained at {FIT:.0%}"
    head = ["optimizer", "lr", "seeds", *COLUMNS, fitted, f"loss - {REFERENCE}'s", "should_stop at"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    if results:
        lines.append("| " + " | ".join(_base_row(results, base)) + " |")
    return "\n".join(lines + ["| " + " | ".join(cells) + " |" for _, cells in rows]) + "\n"


def _base_row(results: Sequence[Result], base: Verdict) -> list[str]:
    before = f"{results[0]['before']:.4f}"
    verdict = [f"{value:.4f}" for value in (base.rmse, base.edge_distance, base.edge_energy)]
    return ["before training", "-", "-", before, before, "0", "0.0000", *verdict, "-", "-", "-"]


def _row(results: Sequence[Result], contender: str) -> tuple[float, list[str]] | None:
    own = at_best_rate(results, contender)
    if not own:
        return None
    cells = [contender, shown_rate(results, own), str(len(own))]
    cells += [shown([float(r[key]) for r in own], DIGITS.get(key, 4)) for key in COLUMNS.values()]
    fitted = [found for r in own if (found := when_fitted(r)) is not None]
    cells.append(shown(fitted) if len(fitted) == len(own) else "-")
    cells.append(compared(own, at_best_rate(results, REFERENCE), "held_out"))
    stops = [str(r["stop_step"]) for r in own if r["stop_step"] is not None]
    return interval([r["held_out"] for r in own])[0], [*cells, ", ".join(stops) or "-"]


def at_best_rate(results: Sequence[Result], contender: str) -> list[Result]:
    """Return a contender's trials at its best rate."""
    lr = best_rate(results, contender)
    return [r for r in results if r["contender"] == contender and r["lr"] == lr]


def when_fitted(result: Result) -> float | None:
    """Return the held-out loss at which the trained loss first is at ``FIT`` of its start.

    Between two measurements of the curve it is taken to be straight; None if it is not reached, or
    the result is of a version that kept no curve.
    """
    curve = result.get("curve") or [[0, 0.0, 0.0]]
    goal = FIT * curve[0][1]
    for (_, before, above), (_, after, below) in itertools.pairwise(curve):
        if after <= goal < before:
            return above + (below - above) * (before - goal) / (before - after)
    return None


def shown_rate(results: Sequence[Result], own: Sequence[Result]) -> str:
    """Return a contender's best rate, and whether it is the lowest or highest that was tried."""
    lr = own[0]["lr"]
    rates = sorted({r["lr"] for r in results if r["contender"] == own[0]["contender"]})
    return f"{lr:.2g}" + (
        " (end of range)" if len(rates) > 1 and lr in (rates[0], rates[-1]) else ""
    )


def compared(own: Sequence[Result], others: Sequence[Result], key: str) -> str:
    """Return by how much a number is higher than the others' of the same seed."""
    reference = {r["seed"]: float(r[key]) for r in others}
    pairs = [r[key] - reference[r["seed"]] for r in own if r["seed"] in reference]
    if not pairs or own[0]["contender"] == REFERENCE:
        return "-"
    mean, half = interval(pairs)
    return f"{mean:+.4f}" + ("" if half is None else f" ± {half:.4f}")


def shown(values: Sequence[float], digits: int = 4) -> str:
    """Return the mean with its interval."""
    mean, half = interval(values)
    spread = "" if half is None else f" ± {half:.{digits}f}"
    return f"{mean:.{digits}f}{spread}"
