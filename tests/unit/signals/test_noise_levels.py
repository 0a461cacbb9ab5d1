import math

import numpy as np
import pytest

from trustopt.signals.noise_levels import plot_loss_by_timestep, profiles_of, timestep_profile
from trustopt.signals.table import Signals
from trustopt.signals.theme import THEMES

SIZE = (640, 320)
FIRST, SECOND = THEMES["light"].series[:2]


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

    np.testing.assert_allclose(timestep_profile(signals, 0.25, 1.0, num_bins=3), [2.0, nan, 5.0])
    np.testing.assert_allclose(timestep_profile(signals, 0.0, 0.25, num_bins=3), [9.0, nan, 9.0])
    assert np.isnan(timestep_profile(Signals.empty("a"))).all()
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


def test_constant_zero_and_empty_bins_are_drawn() -> None:
    for bins in ([], [math.nan], [0.0, 0.0], [1e-320], [-1.0, -2.0], [1e300]):
        assert plot_loss_by_timestep(bins, size=SIZE).shape == (320, 640, 3)


def bins(name: str, steps: int, **values: float) -> Signals:
    columns = {"step": np.arange(1, steps + 1)}
    filled = {f"loss_bin/{key[1:]}": np.full(steps, value) for key, value in values.items()}
    return Signals(name, columns | filled)


def test_a_run_is_compared_with_its_own_beginning() -> None:
    run = bins("a", 8, b0=1.0, b9=3.0)
    run.columns["loss_bin/0"][4:] = 0.5

    first, last = profiles_of([run]).items()
    assert (first[0], last[0]) == ("steps 1 to 2", "steps 7 to 8")
    assert first[1][0] == 1.0
    assert last[1][0] == 0.5
    assert last[1][9] == 3.0
    assert np.isnan(last[1][1:9]).all()
    assert list(profiles_of([bins("a", 1, b0=1.0)])) == ["step 1"]


def test_runs_are_compared_at_their_ends() -> None:
    profiles = profiles_of([bins("a", 4, b0=1.0), bins("a", 4), bins("b", 8, b3=2.0)])

    assert list(profiles) == ["a", "a (2)", "b"]
    assert {len(profile) for profile in profiles.values()} == {10}
    assert np.isnan(profiles["a (2)"]).all()  # keeps its place, so that the colours agree
    assert profiles["b"][3] == 2.0


def test_runs_without_bins_have_no_profiles() -> None:
    assert profiles_of([bins("a", 4)]) == {}
    assert profiles_of([Signals.empty("a"), bins("b", 4)]) == {}


def test_more_profiles_than_colours_are_outlines() -> None:
    count = len(THEMES["light"].series) + 1
    picture = plot_loss_by_timestep({str(i): [1.0] for i in range(count)}, size=SIZE)

    middle = picture[200]
    hit = np.flatnonzero((middle == FIRST).all(axis=1))
    groups = np.split(hit, np.flatnonzero(np.diff(hit) > 1) + 1)
    assert len(groups) == 3  # a bar, and the two sides of an outline
