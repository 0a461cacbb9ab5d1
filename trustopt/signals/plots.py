"""Pictures of runs: one in depth, or several overlaid. Columns in, RGB array out, no file."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .canvas import Canvas, make_style
from .draw_panel import draw_panel
from .header import draw_header
from .layout import lay_out
from .legend import LegendEntry, draw_rows, row_height, wrap
from .limits import step_range
from .marks import Marks, marks_of, stops_of
from .panels import (
    HIDDEN_AMONG_RUNS,
    Panel,
    compare_panels,
    glance,
    select,
    single_run_panels,
)
from .summary import describe, unique_names
from .table import Signals
from .text import fit, text_width
from .theme import ThemeName
from .ticks import linear_ticks


def plot_signals(
    signals: Signals | Sequence[Signals],
    *,
    size: tuple[int, int] = (1280, 960),
    series: Sequence[str] | None = None,
    log_loss: bool = False,
    theme: ThemeName = "light",
    smoothing: float | None = None,
) -> np.ndarray:
    """Draw a run's signals in stacked panels, or compare several runs panel by panel.

    Args:
        signals: One run, or several to overlay; runs of one name are numbered.
        size: Width and height in pixels; text and lines scale with the area.
        series: Names to draw, wildcards allowed (``["loss", "opt/*"]``); None draws all but
            bookkeeping.
        log_loss: Logarithmic loss axis.
        theme: ``light`` or ``dark``.
        smoothing: Share of the past in the bias-corrected moving average, in [0, 1); None chooses
            by the length of the run; 0 draws raw values alone.

    Returns:
        uint8 ``(height, width, 3)``. Without any values: an empty frame that says so.

    Raises:
        ValueError: If the theme is unknown, the size unusable or ``smoothing`` out of range.
    """
    runs = [signals] if isinstance(signals, Signals) else list(signals)
    if smoothing is not None and not 0.0 <= smoothing < 1.0:
        raise ValueError(f"smoothing must be at least 0 and below 1, got {smoothing}")
    canvas = Canvas(size, make_style(size, theme))
    if len(runs) == 1:
        names = select(runs[0], series)
        panels = single_run_panels(runs[0], names, smoothing=smoothing, log_loss=log_loss)
        top = _draw_heading(canvas, runs[0].run or "Training run", describe(runs[0]))
        columns = 1
    else:
        chosen = [name for run in runs for name in select(run, series, HIDDEN_AMONG_RUNS)]
        names = list(dict.fromkeys(chosen))
        labels = unique_names([run.run for run in runs])
        panels = compare_panels(runs, labels, names, smoothing=smoothing, log_loss=log_loss)
        averaged = any(not panel.shows_raw for panel in panels)
        top = _draw_run_legend(canvas, labels, "moving averages" if averaged else "")
        columns = 1 if len(panels) <= 3 else 2 if len(panels) <= 9 else 3
    if not panels:
        missing = "no values recorded yet" if series is None else "no values of the chosen series"
        return canvas.say(missing)
    colors = canvas.style.theme
    marks = marks_of(runs[0], colors) if len(runs) == 1 else stops_of(runs, colors)
    _draw_panels(canvas, panels, step_range(runs), marks, top=top, columns=columns)
    return canvas.render()


def preview(
    signals: Signals, size: tuple[int, int] = (512, 320), *, theme: ThemeName = "dark"
) -> np.ndarray:
    """Draw a small picture for a live node: the loss and the optimizer's most telling panel.

    Args:
        signals: The run so far.
        size: Width and height in pixels.
        theme: ``light`` or ``dark``.

    Returns:
        uint8 ``(height, width, 3)``.

    Raises:
        ValueError: If the theme is unknown or the size unusable.
    """
    # Larger than the area asks for: a preview is looked at in its own size.
    scale = 0.72 * (size[0] * size[1] / (512 * 320)) ** 0.5
    canvas = Canvas(size, make_style(size, theme, scale=scale))
    panels = single_run_panels(signals, select(signals, None), smoothing=None, log_loss=False)
    if not panels:
        return canvas.say("no values recorded yet")
    marks = replace(marks_of(signals, canvas.style.theme), saves=(), skipped=())
    top = canvas.style.px(8)
    _draw_panels(canvas, glance(panels), step_range([signals]), marks, top=top, columns=1)
    return canvas.render()


def _draw_heading(canvas: Canvas, title: str, note: str) -> int:
    """Write the run's name and its summary; return the row below them."""
    style, theme = canvas.style, canvas.style.theme
    left, right = style.px(28), canvas.width - style.px(28)
    middle = style.px(34)
    note = fit(note, style.tick_size, (right - left) * 2 // 3)
    room = right - left - text_width(note, style.tick_size) - style.px(24)
    title = fit(title, style.title_size, room)
    canvas.text(left, middle, title, style.title_size, theme.text, "lm")
    canvas.text(right, middle, note, style.tick_size, theme.muted, "rm")
    return style.px(60)


def _draw_run_legend(canvas: Canvas, labels: Sequence[str], note: str) -> int:
    """Write which colour is which run; return the row below."""
    style, palette = canvas.style, canvas.style.theme.series
    entries = [
        LegendEntry(label=label, color=palette[i % len(palette)], dashed=i >= len(palette))
        for i, label in enumerate(labels)
    ]
    left, right, top = style.px(28), canvas.width - style.px(28), style.px(16)
    middle = top + row_height(style) // 2
    canvas.text(right, middle, note, style.tick_size, style.theme.muted, "rm")
    room = right - text_width(note, style.tick_size) - style.px(24)
    rows = wrap(entries, style, room - left)
    draw_rows(canvas, rows, left=left, right=room, top=top, align_right=False)
    return top + style.px(12) + len(rows) * row_height(style)


def _draw_panels(
    canvas: Canvas,
    panels: Sequence[Panel],
    x_range: tuple[float, float],
    marks: Marks,
    *,
    top: int,
    columns: int,
) -> None:
    """Lay the panels out below ``top`` and draw them on one step axis."""
    style = canvas.style
    for index, place in enumerate(lay_out(canvas, panels, marks, top=top, columns=columns)):
        room = max(2, place.box.width // style.px(110))
        draw_header(canvas, place.panel, place.legend, place.box)
        draw_panel(
            canvas,
            place.panel,
            place.box,
            x_range,
            linear_ticks(*x_range, room, integer=True),
            # Several runs: a mark of one of them says nothing about the panels of the others.
            marks=Marks() if index > 0 and place.panel.overlays_runs else marks,
            step_labels=place.step_labels,
            mark_labels=index == 0,
        )
        if place.is_lowest:
            middle = (place.box.left + place.box.right) / 2
            y = place.box.bottom + style.px(17) + style.tick_size + style.label_size
            canvas.text(middle, y, "Step", style.label_size, style.theme.text, "ms")
