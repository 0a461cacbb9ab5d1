"""Mirrors trustopt/cli/toml_text.py."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trustopt.cli.toml_text import toml_value

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
SCALARS = TEXTS | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.booleans()
VALUES = st.recursive(SCALARS, lambda v: st.lists(v) | st.dictionaries(TEXTS, v), max_leaves=8)


@given(VALUES)
def test_what_is_written_is_read_again(value) -> None:
    read = tomllib.loads(f"value = {toml_value(value)}")["value"]
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize("value", [None, {1}, b"", [None]])
def test_what_toml_lacks_is_refused(value) -> None:
    with pytest.raises(TypeError, match="TOML has no value for"):
        toml_value(value)
