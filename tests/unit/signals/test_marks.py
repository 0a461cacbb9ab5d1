import numpy as np

from trustopt.signals.marks import first_stop, marks_of, stops_of
from trustopt.signals.table import Event, Signals
from trustopt.signals.theme import THEMES

LIGHT = THEMES["light"]


def make_run(*events: Event, **series: list[float]) -> Signals:
    columns = {name.replace("__", "/"): np.array(values) for name, values in series.items()}
    return Signals("a", {"step": np.array([10, 20, 30]), **columns}, events)


def test_marks_of_one_run() -> None:
    run = make_run(
        Event(10, "save"), Event(20, "resume"), Event(30, "save"), Event(30, "stop"),
        skipped=[0.0, 1.0, 0.0], opt__should_stop=[0.0, 1.0, 1.0],
    )  # fmt: skip

    marks = marks_of(run, LIGHT)

    assert marks.lines == [
        (20, "resumed", LIGHT.muted),
        (30, "stopped", LIGHT.muted),
        (20, "should_stop", LIGHT.alert),
    ]
    assert marks.saves == [10, 30]
    assert marks.skipped == [20]
    assert marks.flag is not None
    assert marks.flag[1].tolist() == [0.0, 1.0, 1.0]


def test_should_stop_is_marked_once_whoever_reports_it() -> None:
    both = make_run(Event(20, "should_stop"), opt__should_stop=[0.0, 1.0, 1.0])
    event = make_run(Event(30, "should_stop"))

    assert [line[:2] for line in marks_of(both, LIGHT).lines] == [(20, "should_stop")]
    assert first_stop(event) == 30
    assert first_stop(make_run(opt__should_stop=[0.0, 0.0, 0.0])) is None
    assert first_stop(make_run()) is None


def test_of_several_runs_only_stops_are_marked() -> None:
    runs = [make_run(Event(20, "resume")), make_run(opt__should_stop=[0.0, 0.0, 1.0])]

    assert stops_of(runs, LIGHT).lines == [(30, "should_stop", LIGHT.series[1])]
