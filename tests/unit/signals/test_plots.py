import math
from collections.abc import Sequence

import numpy as np
import pytest

from trustopt.signals.condense import MAX_BLOCKS
from trustopt.signals.panels import select, single_run_panels
from trustopt.signals.plots import plot_signals, preview
from trustopt.signals.table import Event, Signals
from trustopt.signals.theme import THEMES, VERMILLION, Color

SIZE = (640, 480)


def make_signals(run: str = "anna", events: Sequence[Event] = (), **series: object) -> Signals:
    columns = {
        name.replace("__", "/"): np.asarray(values, np.float64) for name, values in series.items()
    }
    length = len(next(iter(columns.values())))
    return Signals(run, {"step": np.arange(1, length + 1), **columns}, tuple(events))


def full_run(length: int = 300, seed: int = 0, run: str = "anna") -> Signals:
    rng = np.random.default_rng(seed)
    share = np.arange(length) / length
    val = np.full(length, math.nan)
    val[::25] = 0.1 + 0.1 * np.exp(-3.0 * share[::25])
    return make_signals(
        run,
        loss=(0.1 + 0.1 * np.exp(-3.0 * share)) * np.exp(0.3 * rng.standard_normal(length)),
        val__loss=val,
        lr=1e-4 * (1.0 - share),
        grad_norm=np.exp(0.3 * rng.standard_normal(length)),
        opt__confidence=0.3 + 0.4 * share,
        opt__danger=0.5 - 0.4 * share,
        opt__update_norm=np.full(length, 1e-3),
        seconds=np.full(length, 1.5),
    )


def where(picture: np.ndarray, color: Color, tolerance: int = 6) -> np.ndarray:
    """Return which pixels have (nearly) this colour."""
    return (np.abs(picture.astype(int) - color) <= tolerance).all(axis=2)


def first_color(theme: str = "light") -> Color:
    return THEMES[theme].series[0]


def curve_rows(
    picture: np.ndarray, color: Color, header: int = 90
) -> tuple[np.ndarray, np.ndarray]:
    """Return columns below the headings that hold the colour, and its mean row in each."""
    mask = where(picture, color, 40)
    mask[:header] = False
    columns = np.flatnonzero(mask.any(axis=0))
    rows = np.arange(mask.shape[0])[:, None]
    return columns, ((rows * mask).sum(axis=0) / np.maximum(mask.sum(axis=0), 1))[columns]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_rising_data_rise_and_falling_data_fall(theme: str, sign: float) -> None:
    values = sign * np.arange(100.0)
    picture = plot_signals(make_signals(opt__drive=values), size=SIZE, theme=theme, smoothing=0.0)

    columns, rows = curve_rows(picture, first_color(theme))

    assert columns[-1] - columns[0] > 0.7 * SIZE[0]
    assert np.ptp(rows) > 0.5 * SIZE[1]
    # Pixel rows grow downwards.
    assert (np.diff(rows) * -sign >= -0.5).all()


def test_a_constant_is_a_level_line() -> None:
    picture = plot_signals(make_signals(opt__drive=np.full(50, 3.0)), size=SIZE)

    columns, rows = curve_rows(picture, first_color())

    assert len(columns) > 0.7 * SIZE[0]
    assert np.ptp(rows) < 1.0


def test_themes_have_their_backgrounds() -> None:
    for name in ("light", "dark"):
        picture = plot_signals(full_run(), size=SIZE, theme=name)
        assert picture.shape == (480, 640, 3)
        assert picture.dtype == np.uint8
        assert tuple(picture[0, 0]) == THEMES[name].background


def test_other_data_make_another_picture_and_the_same_make_the_same() -> None:
    a, b = full_run(seed=0), full_run(seed=1)
    before = {name: values.copy() for name, values in a.columns.items()}

    np.testing.assert_array_equal(plot_signals(a, size=SIZE), plot_signals(a, size=SIZE))
    assert (plot_signals(a, size=SIZE) != plot_signals(b, size=SIZE)).any()
    for name, values in a.columns.items():
        np.testing.assert_array_equal(values, before[name])


def test_every_option_is_seen() -> None:
    plain = plot_signals(full_run(), size=SIZE)

    for options in ({"log_loss": True}, {"smoothing": 0.5}, {"series": ["loss"]}):
        assert (plot_signals(full_run(), size=SIZE, **options) != plain).any(), options


def test_smoothed_loss_is_bold_over_faint_raw_values() -> None:
    signals = make_signals(loss=full_run().series("loss"))
    color = first_color()
    both = plot_signals(signals, size=SIZE)
    alone = plot_signals(signals, size=SIZE, smoothing=0.0)

    faint = tuple(round(255 + (channel - 255) * 0.36) for channel in color)
    assert where(both, faint, 12)[90:].sum() > 300
    assert where(alone, faint, 2)[90:].sum() < 0.2 * where(both, faint, 2)[90:].sum() + 50
    # The average varies less than the values.
    assert np.ptp(curve_rows(both, color)[1]) < np.ptp(curve_rows(alone, color)[1])


def test_validation_has_its_own_colour_and_is_joined_across_steps_without_it() -> None:
    signals = full_run()
    second = THEMES["light"].series[1]
    both = plot_signals(signals, size=SIZE, series=["loss", "val/loss"])
    loss = plot_signals(signals, size=SIZE, series=["loss"])
    validation = plot_signals(signals, size=SIZE, series=["val/loss"])

    assert where(both, second, 60)[90:].sum() > 300
    assert not where(loss, second)[90:].any()
    # By hue: a thin line between two pixel rows is half as dark in both, and text is grey.
    blueish = validation[..., 2].astype(int) - validation[..., 0] > 60
    columns = np.flatnonzero(blueish[90:].any(axis=0))
    assert len(columns) > 0.7 * SIZE[0]
    assert (np.diff(columns) == 1).all()


def test_several_runs_have_their_colours_in_every_panel_they_belong_to() -> None:
    runs = [full_run(seed=seed, run=f"run {seed}") for seed in range(3)]
    picture = plot_signals(runs, size=SIZE, series=["loss"])

    for color in THEMES["light"].series[:3]:
        assert where(picture, color, 30)[90:].sum() > 200
    assert not where(picture, THEMES["light"].series[3])[90:].any()


def test_a_run_without_a_series_is_not_in_its_panel() -> None:
    other = make_signals("other", lr=np.full(300, 1e-4))
    picture = plot_signals([other, full_run()], size=SIZE, series=["loss"])

    first, second = THEMES["light"].series[:2]
    assert not where(picture, first)[90:].any()
    assert where(picture, second, 30)[90:].sum() > 200


def test_should_stop_is_marked_where_it_first_fired() -> None:
    scalar = np.zeros(100)
    stop = np.where(np.arange(100) >= 50, 1.0, 0.0)
    fired = plot_signals(make_signals(opt__scalar=scalar, opt__should_stop=stop), size=SIZE)
    quiet = plot_signals(make_signals(opt__scalar=scalar, opt__should_stop=0 * stop), size=SIZE)

    assert not where(quiet, VERMILLION).any()
    line = where(fired, VERMILLION)[90:].sum(axis=0)
    column = int(line.argmax())
    assert line[column] > 50
    assert column / SIZE[0] == pytest.approx(0.53, abs=0.04)
    tint = tuple(round(255 + (channel - 255) * 0.16) for channel in VERMILLION)
    tinted = where(fired, tint, 3)[90:]
    assert tinted[:, column + 20 : 600].mean() > 0.5
    assert not tinted[:, : column - 5].any()


def test_events_are_marked() -> None:
    plain = plot_signals(full_run(), size=SIZE)
    base = full_run()
    for name in ("resume", "save", "stop"):
        marked = Signals(base.run, base.columns, (Event(150, name),))
        assert (plot_signals(marked, size=SIZE) != plain).any(), name
    outside = Signals(base.run, base.columns, (Event(10_000, "resume"),))
    np.testing.assert_array_equal(plot_signals(outside, size=SIZE), plain)


NAN, INF = math.nan, math.inf
ODD = {
    "nothing recorded": Signals.empty("a"),
    "no value": make_signals(loss=[NAN, NAN]),
    "one step": make_signals(loss=[0.1], lr=[1e-4], opt__danger=[0.3], grad_norm=[2.0]),
    "constants": make_signals(loss=[0.1] * 9, lr=[0.0] * 9, opt__danger=[0] * 9, grad_norm=[0] * 9),
    "gaps": make_signals(loss=[0.1, NAN, 0.2, INF, 0.1] * 9, grad_norm=[1, -INF, 2, NAN, 3] * 9),
    "huge": make_signals(
        loss=np.linspace(-1, 1, 40) * 1.7e308, grad_norm=np.logspace(-320, 308, 40),
        opt__drive=[1e300, -1e300] * 20,
    ),
    "tiny": make_signals(
        loss=np.linspace(1, 2, 40) * 1e-320, lr=np.full(40, 1e-310),
        grad_norm=np.linspace(1, 2, 40) * 1e-320,
    ),
    "nearly constant": make_signals(loss=1 + np.arange(40) * 1e-16, lr=1 + np.arange(40) * 1e-8),
    "negative": make_signals(loss=-np.arange(40.0)),
    "Japanese": make_signals("学習 é 한국어", loss=[0.1, 0.2, 0.3]),
    "many signals": make_signals(**{f"opt__signal_{i}": np.arange(20.0) * i for i in range(40)}),
}  # fmt: skip


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("case", ODD)
@pytest.mark.parametrize(
    "options", [{"size": SIZE}, {"size": SIZE, "log_loss": True}, {"size": (160, 120)}]
)
def test_odd_data_are_drawn(case: str, options: dict) -> None:
    signals = ODD[case]
    width, height = options["size"]
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        picture = plot_signals(signals, **options)
        several = plot_signals([signals, full_run(), signals], **options)
        small = preview(signals)

    assert picture.shape == several.shape == (height, width, 3)
    assert small.shape == (320, 512, 3)
    assert (picture != picture[0, 0]).any()


def test_no_runs_and_no_such_series_say_so() -> None:
    nothing = plot_signals([], size=SIZE)
    none_chosen = plot_signals(full_run(), size=SIZE, series=["typo"])

    assert (nothing != none_chosen).any()
    for picture in (nothing, none_chosen):
        assert not where(picture, first_color()).any()


def test_a_million_steps_are_condensed_before_they_are_drawn() -> None:
    signals = full_run(1_000_000)

    panels = single_run_panels(signals, select(signals, None), smoothing=None, log_loss=False)

    curves = [curve for panel in panels for curve in panel.curves]
    assert len(curves) == 7
    for curve in curves:
        assert len(curve.bold[0]) <= 2 * MAX_BLOCKS
        assert len(curve.raw[0]) <= 2 * MAX_BLOCKS
    loss = next(curve for curve in curves if curve.name == "loss")
    assert np.nanmax(loss.raw[1]) == signals.series("loss").max()


def test_bad_requests_are_refused_before_drawing() -> None:
    with pytest.raises(ValueError, match="theme must be light or dark, got 'blue'"):
        plot_signals(full_run(), theme="blue")
    with pytest.raises(ValueError, match="at least 160 x 120"):
        plot_signals(full_run(), size=(10, 10))
    with pytest.raises(ValueError, match="smoothing must be"):
        plot_signals(full_run(), smoothing=1.0)


def test_preview_shows_the_loss_and_the_optimizer() -> None:
    picture = preview(full_run(), theme="dark")

    colors = THEMES["dark"].series
    upper, lower = picture[:160], picture[160:]
    assert where(upper, colors[0], 30).sum() > 100
    assert where(lower, colors[1], 30).sum() > 100
    assert (preview(full_run(), theme="light") != picture).any()
