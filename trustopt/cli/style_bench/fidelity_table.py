"""What the learned judge says of the trials, and what they left alone, as a Markdown table."""

from collections.abc import Mapping, Sequence

from .contest import CONTENDERS
from .learned import Fidelity
from .table import REFERENCE, Result, at_best_rate, compared, interval, shown, shown_rate

COLUMNS = {"truth first": "first", "in first five": "first_five", "learned distance": "distance"}
DIGITS = {"first": 2, "first_five": 2, "distance": 3}
HEAD = ["optimizer", "lr", "seeds", *COLUMNS, f"distance - {REFERENCE}'s", "leak"]


def fidelity_table(results: Sequence[Result], references: Mapping[str, Fidelity]) -> str:
    """Return the table: contenders at their best rate, the smallest learned distance first.

    Args:
        results: Of trials, with the numbers of their ``Fidelity`` and their ``leak``.
        references: What others than contenders reach, shown above them.
    """
    rows = [row for name in CONTENDERS if (row := _row(results, name)) is not None]
    rows.sort(key=lambda row: row[0])
    lines = [_reference_row(name, fidelity) for name, fidelity in references.items()]
    lines += [cells for _, cells in rows]
    head = ["| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
    return "\n".join(head + ["| " + " | ".join(cells) + " |" for cells in lines]) + "\n"


def _reference_row(name: str, fidelity: Fidelity) -> list[str]:
    shares = [f"{fidelity.first:.2f}", f"{fidelity.first_five:.2f}"]
    return [name, "-", "-", *shares, f"{fidelity.distance:.3f}", "-", "-"]


def _row(results: Sequence[Result], contender: str) -> tuple[float, list[str]] | None:
    own = at_best_rate(results, contender)
    if not own:
        return None
    cells = [contender, shown_rate(results, own), str(len(own))]
    cells += [shown([r[key] for r in own], DIGITS[key]) for key in COLUMNS.values()]
    cells.append(compared(own, at_best_rate(results, REFERENCE), "distance"))
    cells.append(shown([r["leak"] for r in own]))
    return interval([r["distance"] for r in own])[0], cells
