"""Mirrors trustopt/adapters/targets.py."""

import pytest

from trustopt.adapters.targets import select_layers
from trustopt.config import AdapterConfig


@pytest.mark.parametrize(
    ("targets", "count"),
    [
        ("default", 722),
        ("attention", 560),
        ("attention+mlp", 700),
        ("all-linear", 739),
        ("all-linear+conv", 788),
        ("full", 794),
    ],
)
def test_sdxl_presets_at_full_size(sdxl_layers: dict, targets: str, count: int) -> None:
    assert len(select_layers(sdxl_layers, AdapterConfig(targets=targets), "sdxl")) == count


@pytest.mark.parametrize(
    ("targets", "count"),
    [
        ("default", 304),
        ("attention", 152),
        ("attention+mlp", 228),
        ("all-linear", 304),
        ("all-linear+conv", 304),
        ("full", 314),
    ],
)
def test_flux_presets_at_full_size(flux_layers: dict, targets: str, count: int) -> None:
    assert len(select_layers(flux_layers, AdapterConfig(targets=targets), "flux")) == count


def test_locon_trains_the_convolutions_by_default(sdxl_layers: dict) -> None:
    config = AdapterConfig(algorithm="locon")
    selected = select_layers(sdxl_layers, config, "sdxl")
    assert len(selected) == 788
    assert selected["input_blocks.3.0.op"].kind == "conv2d"
    assert "input_blocks.0.0" not in selected  # the first convolution is not in a block


def test_text_encoders_come_on_request(sdxl_layers: dict) -> None:
    config = AdapterConfig(train_text_encoders=True)
    names = list(select_layers(sdxl_layers, config, "sdxl"))
    assert sum(name.startswith("te1.") for name in names) == 72
    assert sum(name.startswith("te2.") for name in names) == 192
    assert len(names) == 722 + 72 + 192


def test_text_encoders_asked_for_but_not_offered(flux_layers: dict) -> None:
    with pytest.raises(ValueError, match=r"no text encoder layers; connect CLIP"):
        select_layers(flux_layers, AdapterConfig(train_text_encoders=True), "flux")


def test_regex_replaces_the_preset_and_searches(sdxl_layers: dict) -> None:
    selected = select_layers(sdxl_layers, AdapterConfig(regex=r"attn2\.to_[kv]$"), "sdxl")
    assert len(selected) == 2 * 70
    assert all(".attn2." in name for name in selected)


def test_order_is_the_hosts(flux_layers: dict) -> None:
    names = list(select_layers(flux_layers, AdapterConfig(), "flux"))
    assert names == [name for name in flux_layers if name in set(names)]


@pytest.mark.parametrize(
    ("regex", "near"),
    [(r"img_atn\.qkv", "img_attn.qkv"), (r"^single_block\.linear3", "single_blocks.0.linear")],
)
def test_regex_without_match_shows_near_names(flux_layers: dict, regex: str, near: str) -> None:
    with pytest.raises(ValueError, match="matches none of the 314 layers") as error:
        select_layers(flux_layers, AdapterConfig(regex=regex), "flux")
    assert near in str(error.value)


def test_broken_regex_is_named() -> None:
    with pytest.raises(ValueError, match=r"regex '\(attn' is not a regular expression"):
        select_layers({}, AdapterConfig(regex="(attn"), "sdxl")


def test_preset_on_another_family(flux_layers: dict) -> None:
    with pytest.raises(ValueError, match="match no layer of this sdxl model"):
        select_layers(flux_layers, AdapterConfig(), "sdxl")
