"""One panel on the canvas: frame, curves, marks."""

from .axes import Axes, Box
from .canvas import Canvas
from .header import RAW_ALPHA, color_of, is_dashed
from .limits import y_limits
from .marks import Marks
from .panels import Panel
from .text import text_width
from .ticks import Ticks


def draw_panel(
    canvas: Canvas,
    panel: Panel,
    box: Box,
    x_range: tuple[float, float],
    x_ticks: Ticks,
    *,
    marks: Marks,
    step_labels: bool,
    mark_labels: bool,
) -> None:
    """Draw axes, curves and marks inside ``box``.

    Args:
        canvas: The picture.
        panel: What to draw.
        box: Area inside the axes.
        x_range: First and last step of the axis.
        x_ticks: Ticks of the step axis.
        marks: Drawn in front of the grid and behind the curves.
        step_labels: Write the steps below the axes.
        mark_labels: Write what the marked lines are.
    """
    style = canvas.style
    axes = Axes(canvas, box, x_range, y_limits(panel), log=panel.log)
    axes.draw_frame()
    if marks.flag is not None and panel.kind == "bounded":
        axes.band(*marks.flag, style.theme.alert, 0.16)
    _draw_lines(axes, marks, words=mark_labels)
    _draw_curves(axes, panel)
    if panel.kind == "loss":
        axes.rug(marks.saves, style.theme.muted, at_top=False)
        axes.rug(marks.skipped, style.theme.alert, at_top=True)
    axes.draw_spines()
    axes.draw_x_ticks(x_ticks, labels=step_labels)


def _draw_curves(axes: Axes, panel: Panel) -> None:
    """Draw raw values faintly behind all averages; the first curve ends up on top."""
    style = axes.style
    for curve in reversed(panel.curves):
        if curve.smooth is not None and panel.shows_raw:
            color, radius = color_of(curve, style), style.faint_radius
            axes.stroke(*curve.raw, color, radius=radius, alpha=RAW_ALPHA)
    for curve in reversed(panel.curves):
        color, dashed = color_of(curve, style), is_dashed(curve, style)
        axes.stroke(*curve.bold, color, radius=style.bold_radius, dashed=dashed)
        if curve.markers:
            axes.markers(*curve.bold, color)


def _draw_lines(axes: Axes, marks: Marks, *, words: bool) -> None:
    """Draw marked steps; a word that would run into the one before it is left out."""
    canvas, style = axes.canvas, axes.style
    free_from = float(axes.box.left)
    low, high = axes.x_range
    for step, word, color in sorted(marks.lines, key=lambda line: line[0]):
        if not low <= step <= high:
            continue
        axes.vertical(step, color)
        x = axes.x_pixel(step) + style.px(6)
        width = text_width(word, style.tick_size)
        if words and x >= free_from and x + width <= axes.box.right:
            y = axes.box.top + style.px(5)
            canvas.text(x, y, word, style.tick_size, color, "la")
            free_from = x + width + style.px(8)
