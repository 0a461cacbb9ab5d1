import math

import numpy as np
import pytest

from trustopt.signals.panels import compare_panels, glance, kind_of, select, single_run_panels
from trustopt.signals.table import Signals


def make_run(**series: object) -> Signals:
    columns = {name.replace("__", "/"): np.asarray(v, np.float64) for name, v in series.items()}
    length = len(next(iter(columns.values())))
    return Signals("a", {"step": np.arange(1, length + 1), **columns})


RUN = make_run(
    loss=[0.3, 0.2], val__loss=[0.3, math.nan], lr=[1e-4, 1e-4], grad_norm=[1.0, 2.0],
    epoch=[0, 1], seconds=[1, 1], skipped=[0, 0], loss_bin__0=[0.1, 0.2],
    opt__flip_ema=[0.5, 0.4], opt__confidence=[0.3, 0.4], opt__should_stop=[0, 1],
    opt__drive=[6.0, 3.0], opt__update_norm=[1e-3, 1e-3], opt__lr_effective=[1e-5, 1e-5],
    opt__never=[math.nan, math.nan], opt__num_skipped=[0, 1], opt__ema_long=[0.3, 0.25],
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "values", "kind"),
    [
        ("loss", [5.0], "loss"), ("val/loss", [0.1], "loss"), ("lr", [1e-4], "lr"),
        ("opt/lr_effective", [1e-4], "lr"), ("grad_norm", [0.5], "norm"),
        ("opt/update_norm", [0.5], "norm"), ("opt/danger", [1e-5, math.nan], "bounded"),
        ("opt/scalar", [-1.0], "bounded"), ("opt/new", [0.4], "bounded"),
        ("opt/new", [1e-5], "other"), ("opt/new", [1.5], "other"), ("opt/danger", [3.0], "other"),
        ("opt/ema_short", [0.1], "memory"), ("opt/drive", [0.9], "bounded"),
    ],
)  # fmt: skip
def test_kinds(name: str, values: list[float], kind: str) -> None:
    assert kind_of(name, np.array(values)) == kind


def test_one_run_is_grouped_by_kind() -> None:
    panels = single_run_panels(RUN, select(RUN, None), smoothing=None, log_loss=False)

    assert [[curve.name for curve in panel.curves] for panel in panels] == [
        ["loss", "val/loss"],
        ["lr", "opt/lr_effective"],
        ["opt/confidence", "opt/flip_ema"],
        ["grad_norm", "opt/update_norm"],
        ["opt/ema_long"],
        ["opt/drive"],
    ]
    assert [panel.log for panel in panels] == [False, False, False, True, False, False]


def test_several_runs_have_a_panel_a_series() -> None:
    other = make_run(loss=[0.4, 0.3], opt__scalar=[0.1, -0.2])
    names = ["loss", "lr", "opt/scalar"]

    panels = compare_panels([RUN, other], ["a", "b"], names, smoothing=None, log_loss=True)

    assert [panel.title for panel in panels] == ["Loss", "Learning rate", "scalar"]
    assert [[curve.label for curve in panel.curves] for panel in panels] == [
        ["a", "b"],
        ["a"],
        ["b"],
    ]
    assert panels[2].curves[0].color_index == 1  # a run keeps its colour
    assert panels[0].log


def test_series_are_chosen_by_name_or_pattern() -> None:
    assert select(RUN, ["opt/*_ema", "seconds", "opt/never"]) == ["seconds", "opt/flip_ema"]
    hidden = {"epoch", "seconds", "skipped", "loss_bin/0", "opt/should_stop", "opt/never"}
    hidden.add("opt/num_skipped")
    assert not hidden & set(select(RUN, None))


def test_the_learning_rate_is_never_averaged_and_the_loss_always() -> None:
    noise = 1.0 + 0.5 * np.random.default_rng(0).standard_normal(100)
    run = make_run(loss=np.linspace(1, 2, 100), lr=noise, opt__drive=9 * noise, grad_norm=noise)
    panels = single_run_panels(run, run.names, smoothing=None, log_loss=False)
    averaged = {curve.name: curve.smooth is not None for p in panels for curve in p.curves}

    assert averaged == {"loss": True, "lr": False, "opt/drive": True, "grad_norm": True}
    panels = single_run_panels(run, run.names, smoothing=0.0, log_loss=False)
    assert not any(curve.smooth for panel in panels for curve in panel.curves)


def test_a_log_axis_needs_a_positive_value() -> None:
    run = make_run(loss=[-1.0, -2.0], grad_norm=[0.0, 0.0])
    panels = single_run_panels(run, run.names, smoothing=None, log_loss=True)

    assert [panel.log for panel in panels] == [False, False]


def test_at_a_glance() -> None:
    panels = single_run_panels(RUN, select(RUN, None), smoothing=None, log_loss=False)

    assert [panel.kind for panel in glance(panels)] == ["loss", "bounded"]
    assert [panel.kind for panel in glance(panels[1:2])] == ["lr"]
    crowd = make_run(**{f"opt__s{i}": [0.5, 0.6] for i in range(9)}, opt__danger=[0.1, 0.2])
    panels = single_run_panels(crowd, crowd.names, smoothing=None, log_loss=False)
    curves = glance(panels)[0].curves
    assert len(curves) == 4
    assert curves[0].name == "opt/danger"
    assert [curve.color_index for curve in curves] == [0, 1, 2, 3]
