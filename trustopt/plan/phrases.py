"""Texts for users that can be said in another language.

English stands where it is said. A phrase remembers its template, which is its key in a language's
table (``locales/<language>/phrases.json``), and what was put in; everywhere else it is a plain
English text. So only who shows a text to a user has to know that there are languages.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

Table = Mapping[str, str]
"""English template -> template in another language, with the same names in braces."""

ENGLISH: Table = MappingProxyType({})
"""The table that leaves every text as it is."""


class Phrase(str):
    """An English text that :func:`say` can say in another language.

    Copies are plain English texts.

    Args:
        template: English, with names in braces.
        values: What stands for the names; may be phrases themselves.
    """

    template: str
    values: dict[str, Any]

    def __new__(cls, template: str, **values: Any) -> "Phrase":
        """Keep the template and the values beside the English text."""
        phrase = super().__new__(cls, template.format(**values))
        phrase.template, phrase.values = template, values
        return phrase

    def __reduce__(self) -> tuple[type, tuple[str]]:
        return str, (str(self),)


def say(text: Any, table: Table) -> Any:
    """Return a text in a table's language; what is no phrase, or not in the table, as it is."""
    if not isinstance(text, Phrase):
        return text
    values = {name: say(value, table) for name, value in text.values.items()}
    return table.get(text.template, text.template).format(**values)
