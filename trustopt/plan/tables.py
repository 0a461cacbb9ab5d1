"""The preset tables as Markdown, for ``docs/presets.md``: the page is checked against the JSON."""

from .presets import Preset, PresetRow, load_presets
from .report import scientific, shown
from .values import VALUES

_COLUMNS = ("steps", "lr", "rank", "alpha", "repeats", "scheduler")


def preset_tables() -> str:
    """Return one section a table: its rows, the values the rows share, and the source."""
    return "\n\n".join(_section(preset) for preset in load_presets().values())


def _section(preset: Preset) -> str:
    low, high = preset.trust_level_range
    first = preset.rows[0].values
    rest = ", ".join(
        f"{name} {shown(name, first[name])}"
        for name in VALUES
        if name in first and name not in _COLUMNS
    )
    return "\n".join(
        [
            f"### {preset.family.upper()} {preset.purpose}",
            "",
            "| preset | images | steps | lr | rank/alpha | repeats | scheduler | warm-up | |",
            "|---|---|---|---|---|---|---|---|---|",
            *(_row(row, preset.warmup_fraction) for row in preset.rows),
            "",
            f"All rows: {rest}. trust_level {low:g} to {high:g}.",
            "",
            f"Source: {preset.source}",
        ]
    )


def _row(row: PresetRow, warmup_fraction: float) -> str:
    values = row.values
    until = "and more" if row.max_images is None else f"- {row.max_images}"
    warmup = f"{warmup_fraction:.0%} = {round(values['steps'] * warmup_fraction)}"
    cells = (
        f"{row.preset} {row.label}",
        f"{row.min_images} {until}",
        f"{values['steps']}",
        scientific(values["lr"]),
        f"{values['rank']}/{values['alpha']:g}",
        f"{values['repeats']}",
        values["scheduler"],
        warmup,
        row.use,
    )
    return f"| {' | '.join(cells)} |"
