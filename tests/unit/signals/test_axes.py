import math

import numpy as np
import pytest

from trustopt.signals.axes import Axes, Box
from trustopt.signals.canvas import Canvas, make_style
from trustopt.signals.theme import BLUE, VERMILLION

BOX = Box(left=60, top=40, right=360, bottom=240)


def make_axes(
    x_range: tuple[float, float] = (0.0, 100.0),
    y_range: tuple[float, float] = (0.0, 1.0),
    *,
    log: bool = False,
) -> Axes:
    return Axes(Canvas((400, 300), make_style((400, 300), "light")), BOX, x_range, y_range, log=log)


def drawn(axes: Axes) -> np.ndarray:
    """Return where the picture is not white, ``(height, width)``."""
    return (axes.canvas.render() < 250).any(axis=2)


def middle_rows(mask: np.ndarray) -> np.ndarray:
    """Return the mean drawn row of each column, NaN where nothing is drawn."""
    rows = np.arange(mask.shape[0])[:, None]
    count = mask.sum(axis=0)
    return np.where(count > 0, (rows * mask).sum(axis=0) / np.maximum(count, 1), np.nan)


def test_pixels_by_hand() -> None:
    axes = make_axes((0.0, 100.0), (-1.0, 1.0))

    assert axes.x_pixel(0.0) == 60
    assert axes.x_pixel(25.0) == 135
    assert axes.y_pixel(-1.0) == 240
    assert axes.y_pixel(0.5) == 90


def test_log_pixels_by_hand() -> None:
    axes = make_axes(y_range=(1e-4, 1.0), log=True)

    np.testing.assert_allclose(axes.rows(np.array([1e-4, 1e-2, 1.0])), [240, 140, 40])
    assert np.isnan(axes.rows(np.array([0.0, -1.0, math.nan, math.inf]))).all()


def test_a_straight_line_lies_where_it_should() -> None:
    axes = make_axes()
    axes.stroke(np.array([0.0, 100.0]), np.array([0.25, 0.75]), BLUE, radius=1.5)

    rows = middle_rows(drawn(axes))

    columns = np.arange(62, 358)
    expected = 240 - 200 * (0.25 + 0.5 * (columns + 0.5 - 60) / 300)
    np.testing.assert_allclose(rows[columns] + 0.5, expected, atol=0.8)
    assert np.isnan(rows[:60]).all()
    assert np.isnan(rows[360:]).all()


def test_the_pen_is_as_wide_as_asked_whatever_the_slope() -> None:
    for values in ([0.5, 0.5], [0.0, 1.0]):
        axes = make_axes()
        axes.stroke(np.array([0.0, 100.0]), np.array(values), (0, 0, 0), radius=2.0)
        ink = (255.0 - axes.canvas.render()[..., 0]).sum() / 255.0
        length = math.hypot(300, 200 * (values[1] - values[0]))
        assert ink / length == pytest.approx(4.0, rel=0.03)


def test_nothing_is_drawn_outside_the_axes() -> None:
    axes = make_axes((20.0, 80.0), (0.4, 0.6))
    x = np.arange(101.0)
    y = np.random.default_rng(0).uniform(-5.0, 5.0, 101)
    axes.stroke(x, y, BLUE, radius=2.0)
    axes.markers(x, y, BLUE)
    axes.band(x, np.ones(101), VERMILLION, 0.3)

    mask = drawn(axes)

    assert mask[40:240, 60:360].any()
    # A dot on the very edge may reach out by its own radius.
    outside = mask.copy()
    outside[38:242, 58:362] = False
    assert not outside.any()


def test_gaps_stay_empty_and_a_lonely_value_is_a_dot() -> None:
    axes = make_axes((0.0, 10.0))
    y = np.array([0.5, 0.5, 0.5, math.nan, math.nan, 0.5, math.nan, math.inf, 0.5, 0.5, 0.5])
    axes.stroke(np.arange(11.0), y, BLUE, radius=1.0)

    columns = drawn(axes).any(axis=0)

    assert columns[62:118].all()  # steps 0 to 2
    assert not columns[126:200].any()  # 2 to 5
    assert columns[208:212].all()  # 5 alone
    assert not columns[220:294].any()
    assert columns[302:358].all()


def test_a_dashed_line_is_interrupted() -> None:
    axes = make_axes()
    axes.stroke(np.array([0.0, 100.0]), np.array([0.5, 0.5]), BLUE, radius=1.0, dashed=True)

    columns = drawn(axes).any(axis=0)[60:360]

    changes = np.count_nonzero(columns[1:] != columns[:-1])
    assert changes >= 20
    assert 0.3 < columns.mean() < 0.9


def test_faint_lines_are_lighter() -> None:
    def darkest(alpha: float) -> int:
        axes = make_axes()
        y = np.array([0.5, 0.5])
        axes.stroke(np.array([0.0, 100.0]), y, (0, 0, 0), radius=2.0, alpha=alpha)
        return int(axes.canvas.render().min())

    assert darkest(1.0) == 0
    assert darkest(0.4) == pytest.approx(255 * 0.6, abs=2)


def test_band_tints_where_the_flag_is_set() -> None:
    axes = make_axes((0.0, 10.0))
    flag = np.where(np.arange(11) >= 5, 1.0, 0.0)
    axes.band(np.arange(11.0), flag, VERMILLION, 0.2)

    mask = drawn(axes)

    assert not mask[:, :195].any()
    assert mask[40:240, 215:359].all()


def test_ticks_are_written_left_of_the_axes() -> None:
    axes = make_axes()
    axes.draw_frame()

    mask = drawn(axes)

    assert mask[:, 20:50].any()
    assert not mask[:, :10].any()
