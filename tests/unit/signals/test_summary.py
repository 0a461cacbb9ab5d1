import math

import numpy as np

from trustopt.signals.summary import describe, summarize, unique_names
from trustopt.signals.table import Signals


def test_summary_by_hand() -> None:
    nan = math.nan
    signals = Signals(
        "a",
        {
            "step": np.array([1, 2, 3, 1004]),
            "loss": np.array([0.5, 0.5, 0.5, nan]),
            "val/loss": np.array([0.9, 0.7, nan, 0.8]),
            "seconds": np.array([9.0, 2.0, 2.0, 2.0]),
            "skipped": np.array([0.0, 0.0, 0.0, 1.0]),
        },
    )

    summary = summarize(signals)

    assert (summary.num_steps, summary.num_skipped) == (1004, 1)
    np.testing.assert_allclose(summary.loss, 0.5)
    assert (summary.val_loss, summary.val_step) == (0.7, 2)
    assert summary.seconds_per_step == 2.0
    assert describe(signals) == (
        "1,004 steps · loss 0.5 · best validation 0.7 at step 2 · 2 s/step · 1 skipped"
    )


def test_what_was_not_recorded_is_left_out() -> None:
    assert describe(Signals.empty("a")) == "0 steps"
    assert describe(Signals("a", {"step": np.array([3])})) == "3 steps"


def test_names_are_told_apart() -> None:
    assert unique_names(["a", "b", "a", "a (2)", "a", ""]) == [
        "a", "b", "a (2)", "a (2) (2)", "a (3)", "run",
    ]  # fmt: skip
