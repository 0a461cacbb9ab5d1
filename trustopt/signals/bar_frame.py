"""What the bar pictures share: one pair of axes with a heading, colours told apart."""

from collections.abc import Sequence

from .canvas import Canvas, Style, make_style
from .legend import LegendEntry, draw_rows, row_height, wrap
from .text import fit, text_width
from .theme import Color, ThemeName
from .ticks import Ticks


def bar_style(size: tuple[int, int], theme: ThemeName) -> Style:
    """Size text by the tighter side: a single pair of axes has room for it."""
    width, height = size
    return make_style(size, theme, scale=max(0.5, min(width / 1280, height / 640)))


def color(index: int, style: Style) -> Color:
    """Return the colour of the ``index``-th run or group; see ``is_hollow``."""
    return style.theme.series[index % len(style.theme.series)]


def is_hollow(index: int, style: Style) -> bool:
    """Return whether only the outline is drawn: the colours begin again."""
    return index >= len(style.theme.series)


def swatches(labels: Sequence[str], style: Style) -> list[LegendEntry]:
    """Return the legend of some runs or groups, one without a name left out."""
    return [
        LegendEntry(
            label=label, color=color(index, style), swatch=True, hollow=is_hollow(index, style)
        )
        for index, label in enumerate(labels)
        if label
    ]


def draw_heading(canvas: Canvas, title: str, note: str, legend: Sequence[LegendEntry]) -> int:
    """Write title, note and legend; return the first free row below."""
    style, theme = canvas.style, canvas.style.theme
    left, right, middle = style.px(28), canvas.width - style.px(28), style.px(34)
    title = fit(title, style.title_size, right - left)
    canvas.text(left, middle, title, style.title_size, theme.text, "lm")
    start = left + text_width(title, style.title_size) + style.px(16)
    note = fit(note, style.label_size, max(0, (right - left) * 2 // 3 - start))
    canvas.text(start, middle, note, style.label_size, theme.muted, "lm")
    start += text_width(note, style.label_size) + style.px(12)
    rows = wrap(legend, style, max(right - start, (right - left) // 3))
    top = middle - row_height(style) // 2
    draw_rows(canvas, rows, left=start, right=right, top=top)
    return max(style.px(64), top + len(rows) * row_height(style) + style.px(12))


def label_margin(ticks: Ticks, style: Style) -> int:
    """Return the room that tick labels need left of the axes."""
    widest = max((text_width(label, style.tick_size) for _, label in ticks), default=0)
    return widest + style.px(28)


def draw_x_label(canvas: Canvas, words: str, middle: float) -> None:
    """Write what the x axis measures, at the picture's lower edge."""
    style = canvas.style
    y = canvas.height - style.px(14)
    canvas.text(middle, y, words, style.label_size, style.theme.text, "ms")


def fill_bar(
    canvas: Canvas, left: float, top: float, right: float, bottom: float, index: int
) -> None:
    """Fill a bar in the colour of a run or group, or draw its outline."""
    style = canvas.style
    canvas.fill(left, top, right, bottom, color(index, style))
    edge = style.px(2)
    if is_hollow(index, style) and right - left > 2 * edge and bottom - top > 2 * edge:
        inside = (left + edge, top + edge, right - edge, bottom - edge)
        canvas.fill(*inside, style.theme.plot)
