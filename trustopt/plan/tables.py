"""The preset tables as Markdown, for ``docs/presets.md``: the page is checked against the JSON."""

from .presets import Preset, PresetRow, load_presets
from .values import DERIVED, VALUES
from .wording import scientific, shown

_COLUMNS = ("steps", "lr", "rank", "alpha", "repeats", "scheduler")
_OTHERS = tuple(name for name in VALUES if name not in {*_COLUMNS, *DERIVED})


def preset_tables() -> str:
    """Return one section a table: its rows, the values the rows share, and the source."""
    return "\n\n".join(_section(preset) for preset in load_presets().values())


def _section(preset: Preset) -> str:
    low, high = preset.trust_level_range
    rest = ", ".join(f"{name} {_in_all_rows(name, preset)}" for name in _OTHERS)
    return "\n".join(
        [
            f"### {preset.family.upper()} {preset.purpose}",
            "",
            "| preset | images | steps | lr | rank/alpha | repeats | scheduler | warm-up | notes |",
            "|---|---|---|---|---|---|---|---|---|",
            *(_row(row, preset.warmup_fraction) for row in preset.rows),
            "",
            f"Also: {rest}. trust_level {low:g} to {high:g}.",
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


def _in_all_rows(name: str, preset: Preset) -> str:
    """Return the value of all rows, or each row's own: ``512``, ``512/512/768/768``."""
    values = [shown(name, row.values[name]) for row in preset.rows]
    return values[0] if len(set(values)) == 1 else "/".join(values)
