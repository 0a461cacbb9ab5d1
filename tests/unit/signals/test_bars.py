import math

import numpy as np
import pytest

from trustopt.signals.bars import plot_block_norms, plot_loss_by_timestep, timestep_profile
from trustopt.signals.table import Signals
from trustopt.signals.theme import THEMES

SIZE = (640, 320)
FIRST, SECOND, THIRD = THEMES["light"].series[:3]


def where(picture: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    return (picture == color).all(axis=2)


def test_profile_by_hand() -> None:
    nan = math.nan
    signals = Signals(
        "a",
        {
            "step": np.arange(1, 5),
            "loss_bin/0": np.array([9.0, 1.0, 3.0, nan]),
            "loss_bin/2": np.array([9.0, nan, nan, 5.0]),
        },
    )

    np.testing.assert_allclose(timestep_profile(signals, 0.25, 1.0), [2.0, nan, 5.0])
    np.testing.assert_allclose(timestep_profile(signals, 0.0, 0.25), [9.0, nan, 9.0])
    assert len(timestep_profile(Signals.empty("a"))) == 0
    with pytest.raises(ValueError, match="begin < end"):
        timestep_profile(signals, 0.5, 0.5)


def test_bars_are_as_high_as_the_losses() -> None:
    picture = plot_loss_by_timestep([1.0, 2.0, math.nan, 4.0], size=SIZE)

    heights = where(picture, FIRST).sum(axis=0)
    columns = np.flatnonzero(heights)
    groups = np.split(columns, np.flatnonzero(np.diff(columns) > 1) + 1)
    tops = [heights[group[len(group) // 2]] for group in groups]
    assert len(tops) == 3  # the bin without samples is empty
    assert tops[1] / tops[0] == pytest.approx(2.0, rel=0.03)
    assert tops[2] / tops[0] == pytest.approx(4.0, rel=0.03)


def test_profiles_stand_side_by_side() -> None:
    picture = plot_loss_by_timestep({"first": [1.0, 2.0], "last": [0.5, 1.0]}, size=SIZE)

    plot = picture[60:]
    first = np.flatnonzero(where(plot, FIRST).any(axis=0))
    last = np.flatnonzero(where(plot, SECOND).any(axis=0))
    assert len(first) > 100
    assert len(last) > 100
    assert not set(first) & set(last)
    assert first.min() < last.min()


def test_edges_place_the_bars() -> None:
    picture = plot_loss_by_timestep([1.0, 1.0], edges=[0.0, 900.0, 1000.0], size=SIZE)

    columns = np.flatnonzero(where(picture, FIRST).any(axis=0))
    groups = np.split(columns, np.flatnonzero(np.diff(columns) > 1) + 1)
    assert len(groups) == 2
    assert len(groups[0]) / len(groups[1]) == pytest.approx(9.0, rel=0.1)


@pytest.mark.parametrize("edges", [[0.0, 1.0], [0.0, 2.0, 1.0], [0.0, math.nan, 1.0]])
def test_edges_must_fit(edges: list[float]) -> None:
    with pytest.raises(ValueError, match="2 bins need 3 ascending edges"):
        plot_loss_by_timestep([1.0, 1.0], edges=edges)


def test_profiles_must_fit_each_other() -> None:
    with pytest.raises(ValueError, match="same bins"):
        plot_loss_by_timestep({"a": [1.0], "b": [1.0, 2.0]})


def test_blocks_are_as_long_as_their_norms() -> None:
    norms = {
        "double_blocks.0": 1.0,
        "double_blocks.1": 2.0,
        "single_blocks.0": 3.0,
        "gone": math.nan,
    }
    picture = plot_block_norms(norms, size=SIZE)

    lengths = {}
    for color in (FIRST, SECOND):
        widths = where(picture[60:], color).sum(axis=1)
        rows = np.flatnonzero(widths)
        groups = np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1)
        lengths[color] = [int(widths[group].max()) for group in groups]
    assert len(lengths[FIRST]) == 2
    assert lengths[FIRST][1] / lengths[FIRST][0] == pytest.approx(2.0, rel=0.03)
    assert lengths[SECOND][0] / lengths[FIRST][0] == pytest.approx(3.0, rel=0.03)
    assert not where(picture[60:], THIRD).any()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("count", [0, 1, 57, 722])
def test_any_number_of_blocks_is_drawn(count: int, theme: str) -> None:
    norms = {f"output_blocks.{i}.very.long.name.of.a.layer": float(i) for i in range(count)}
    picture = plot_block_norms(norms, size=SIZE, theme=theme)

    assert picture.shape == (320, 640, 3)
    assert where(picture, THEMES[theme].series[0]).any() == (count > 1)


def test_constant_zero_and_empty_bins_are_drawn() -> None:
    for bins in ([], [math.nan], [0.0, 0.0], [1e-320], [-1.0, -2.0], [1e300]):
        assert plot_loss_by_timestep(bins, size=SIZE).shape == (320, 640, 3)


def test_a_negative_norm_is_refused() -> None:
    with pytest.raises(ValueError, match=r"at least 0, got -1\.0 for 'a'"):
        plot_block_norms({"a": -1.0})
