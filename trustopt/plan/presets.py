"""The preset tables: ``presets/<family>_<purpose>.json``, read and checked."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from .values import DERIVED, FAMILIES, PURPOSES, VALUES, check_choice, check_keys, check_value

_TABLE_KEYS = (
    "family",
    "purpose",
    "source",
    "trust_level_range",
    "warmup_fraction",
    "shared",
    "rows",
)
_ROW_KEYS = ("preset", "label", "max_images", "use")
_PRESET_VALUES = tuple(name for name in VALUES if name not in DERIVED)


@dataclass(frozen=True, kw_only=True)
class PresetRow:
    """The preset of one band of image counts."""

    preset: str
    """Short id, unique within the table: ``A``."""
    label: str
    """Name of the band: ``small``."""
    use: str
    """What the band is like, for the help page."""
    min_images: int
    max_images: int | None
    """Largest count of the band; None for the last one."""
    values: Mapping[str, Any]
    """Every key of ``VALUES`` but epochs and warmup_steps."""


@dataclass(frozen=True, kw_only=True)
class Preset:
    """One table: the presets of one model family and purpose."""

    family: str
    purpose: str
    source: str
    """Where the numbers come from."""
    trust_level_range: tuple[float, float]
    """AutoTrustGO's trust_level for this purpose, as its author gives it."""
    warmup_fraction: float
    """Share of the steps over which the learning rate rises."""
    rows: tuple[PresetRow, ...]

    def row_for(self, num_images: int) -> PresetRow:
        """Return the row whose band holds ``num_images`` (>= 1)."""
        return next(
            row for row in self.rows if row.max_images is None or num_images <= row.max_images
        )


def presets_folder() -> Path:
    """Return the folder of the tables: inside an installed package, or next to it in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "presets"
    return installed if installed.is_dir() else package.parent / "presets"


def load_preset(family: str, purpose: str, folder: Path | None = None) -> Preset:
    """Read one table.

    Args:
        family: One of ``FAMILIES``.
        purpose: One of ``PURPOSES``.
        folder: Another folder of tables; None reads the shipped one.

    Raises:
        ValueError: If there is no such table, or it is broken: the file and the fault are named.
    """
    check_choice("family", family, FAMILIES)
    check_choice("purpose", purpose, PURPOSES)
    path = (folder or presets_folder()) / f"{family}_{purpose}.json"
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"no preset file {path}: reinstall the pack, or put it back") from None
    except ValueError as error:  # JSON syntax or encoding
        raise ValueError(f"{path.name} is not valid JSON in UTF-8: {error}") from error
    preset = _parse(table, path.name)
    if (preset.family, preset.purpose) != (family, purpose):
        raise ValueError(
            f"{path.name}: holds presets for {preset.family} {preset.purpose}; "
            "family and purpose must be those of the file name"
        )
    return preset


def load_presets(folder: Path | None = None) -> Mapping[tuple[str, str], Preset]:
    """Read all tables, by ``(family, purpose)``.

    Raises:
        ValueError: If a table is missing or broken.
    """
    return MappingProxyType(
        {
            (family, purpose): load_preset(family, purpose, folder)
            for family in FAMILIES
            for purpose in PURPOSES
        }
    )


def _parse(table: Any, where: str) -> Preset:
    _expect(isinstance(table, dict), where, "a JSON object")
    check_keys(table, _TABLE_KEYS, _TABLE_KEYS, where)
    _expect(isinstance(table["shared"], dict), where, '"shared" to be an object of values')
    _expect(isinstance(table["rows"], list) and table["rows"], where, '"rows" to be a list')
    _expect(_is_text(table["source"]), where, '"source" to say where the numbers come from')
    low, high = _trust_level_range(table["trust_level_range"], where)
    warmup_fraction = table["warmup_fraction"]
    _expect(
        _is_number(warmup_fraction) and 0.0 <= warmup_fraction <= 1.0,
        where,
        '"warmup_fraction" to be a number from 0 to 1',
    )
    return Preset(
        family=table["family"],
        purpose=table["purpose"],
        source=table["source"],
        trust_level_range=(low, high),
        warmup_fraction=float(warmup_fraction),
        rows=_parse_rows(table["rows"], table["shared"], where),
    )


def _parse_rows(rows: list[Any], shared: dict[str, Any], where: str) -> tuple[PresetRow, ...]:
    check_keys(shared, _PRESET_VALUES, (), f'{where}, "shared"')
    parsed: list[PresetRow] = []
    min_images = 1
    for number, row in enumerate(rows, start=1):
        place = f"{where}, row {number}"
        _expect(isinstance(row, dict), place, "a JSON object")
        is_last = number == len(rows)
        parsed.append(_parse_row({**shared, **row}, min_images, is_last, place))
        min_images = (parsed[-1].max_images or 0) + 1
    names = [row.preset for row in parsed]
    _expect(len(set(names)) == len(names), where, 'another "preset" id for each row')
    return tuple(parsed)


def _parse_row(row: dict[str, Any], min_images: int, is_last: bool, where: str) -> PresetRow:
    keys = (*_ROW_KEYS, *_PRESET_VALUES)
    check_keys(row, keys, keys, where)
    for key in ("preset", "label", "use"):
        _expect(_is_text(row[key]), where, f'"{key}" to be text')
    max_images = row["max_images"]
    if is_last:
        _expect(max_images is None, where, '"max_images" to be null: the last row has no end')
    else:
        _expect(
            type(max_images) is int and max_images >= min_images,
            where,
            f'"max_images" to be a whole number of at least {min_images}',
        )
    values = {name: check_value(name, row[name], f"{where}: ") for name in _PRESET_VALUES}
    return PresetRow(
        preset=row["preset"],
        label=row["label"],
        use=row["use"],
        min_images=min_images,
        max_images=max_images,
        values=MappingProxyType(values),
    )


def _trust_level_range(value: Any, where: str) -> tuple[float, float]:
    is_range = isinstance(value, list) and len(value) == 2 and all(map(_is_number, value))
    _expect(
        is_range and 0.0 <= value[0] <= value[1] <= 1.0,
        where,
        '"trust_level_range" to be [low, high] within 0 and 1',
    )
    return float(value[0]), float(value[1])


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _expect(holds: object, where: str, expected: str) -> None:
    if not holds:
        raise ValueError(f"{where} expects {expected}")
