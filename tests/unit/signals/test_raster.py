import math

import numpy as np
import pytest

from trustopt.signals.raster import (
    SUBCOLUMNS,
    column_envelope,
    disc_coverage,
    span_coverage,
    stroke_spans,
)


def test_envelope_keeps_the_extremes_of_every_column() -> None:
    x = np.array([0.0, 0.5, 1.5, 2.5, 3.0])
    y = np.array([0.0, 8.0, -4.0, 4.0, 4.0])

    low, high = column_envelope(x, y, 0.0, 3.0, 3)

    # At the edges x = 1, 2 the line is halfway between 8 and -4, -4 and 4: 2 and 0.
    np.testing.assert_allclose(low, [0.0, -4.0, 0.0])
    np.testing.assert_allclose(high, [8.0, 2.0, 4.0])


def test_envelope_interpolates_columns_without_a_point() -> None:
    low, high = column_envelope(np.array([0.0, 4.0]), np.array([0.0, 4.0]), 0.0, 4.0, 4)

    np.testing.assert_allclose(low, [0.0, 1.0, 2.0, 3.0])
    np.testing.assert_allclose(high, [1.0, 2.0, 3.0, 4.0])


def test_envelope_breaks_at_gaps_and_outside() -> None:
    x = np.arange(6.0)
    y = np.array([1.0, 1.0, math.nan, math.nan, 1.0, math.inf])

    low, _ = column_envelope(x, y, -2.5, 5.5, 8)

    absent = [True, True, False, False, True, True, False, True]  # columns centred on -2 ... 5
    np.testing.assert_array_equal(np.isnan(low), absent)


def test_envelope_of_a_million_points_loses_no_spike() -> None:
    x = np.arange(1_000_000.0)
    y = np.zeros(1_000_000)
    y[123_456], y[777_777] = 5.0, -7.0

    low, high = column_envelope(x, y, 0.0, 999_999.0, 1000)

    assert len(low) == 1000
    assert list(np.flatnonzero(high == 5.0)) == [123]
    assert list(np.flatnonzero(low == -7.0)) == [777]


def test_envelope_of_one_point_and_of_none() -> None:
    low, high = column_envelope(np.array([1.0]), np.array([3.0]), 0.0, 2.0, 4)
    assert np.flatnonzero(np.isfinite(low)).tolist() == [2]
    assert low[2] == high[2] == 3.0

    low, _ = column_envelope(np.empty(0), np.empty(0), 0.0, 2.0, 4)
    assert np.isnan(low).all()


def test_a_dot_becomes_a_disc_of_the_pen() -> None:
    low = np.full(41, np.nan)
    low[20] = 10.0

    top, bottom = stroke_spans(low, low.copy(), radius=2.0)

    assert (bottom[20] - top[20]) == pytest.approx(4.0)
    assert (bottom[20 + SUBCOLUMNS] - top[20 + SUBCOLUMNS]) == pytest.approx(2.0 * math.sqrt(3.0))
    area = np.nansum(bottom - top) / SUBCOLUMNS
    assert area == pytest.approx(math.pi * 4.0, rel=0.02)


def test_coverage_is_the_overlap_with_each_pixel() -> None:
    low = np.full(2 * SUBCOLUMNS, 1.25)
    high = np.full(2 * SUBCOLUMNS, 2.5)
    low[SUBCOLUMNS : SUBCOLUMNS + SUBCOLUMNS // 2] = np.nan  # half of the second pixel column

    first, coverage = span_coverage(low, high, 10)

    assert first == 1
    np.testing.assert_allclose(coverage, [[0.75, 0.375], [0.5, 0.25]])


def test_coverage_is_cut_off_at_the_area() -> None:
    columns = SUBCOLUMNS
    first, coverage = span_coverage(np.full(columns, -1e300), np.full(columns, 1e300), 3)
    assert first == 0
    np.testing.assert_allclose(coverage, [[1.0], [1.0], [1.0]])

    _, coverage = span_coverage(np.full(columns, 5.0), np.full(columns, 6.0), 3)
    assert coverage.size == 0


def test_disc_has_the_area_of_its_radius() -> None:
    left, top, coverage = disc_coverage(10.3, 20.7, 4.0)

    assert coverage.sum() == pytest.approx(math.pi * 16.0, rel=0.02)
    rows, columns = np.indices(coverage.shape)
    centre = ((columns + 0.5 + left) * coverage).sum() / coverage.sum()
    assert centre == pytest.approx(10.3, abs=0.05)
    centre = ((rows + 0.5 + top) * coverage).sum() / coverage.sum()
    assert centre == pytest.approx(20.7, abs=0.05)
