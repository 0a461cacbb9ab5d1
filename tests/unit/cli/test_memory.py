"""Mirrors trustopt/cli/memory.py."""

import pytest
import torch

from trustopt.adapters import build_adapters
from trustopt.cli.memory import size, state_bytes
from trustopt.config import AdapterConfig, JobConfig, OptimizerConfig
from trustopt.host import LayerShape


@pytest.mark.parametrize(
    ("optimizer", "least", "most"),
    [("adamw", 8.0, 8.1), ("emonavi", 8.0, 8.2), ("emolynx", 4.0, 4.2), ("adafactor", 0.0, 1.0)],
)
def test_optimizer_states_have_their_known_size(optimizer, least, most) -> None:
    layers = {
        "middle_block.1.proj_in": LayerShape(kind="linear", in_features=640, out_features=640)
    }
    adapters = build_adapters(layers, AdapterConfig(), torch.Generator().manual_seed(0))
    config = JobConfig(name="job", optimizer=OptimizerConfig(name=optimizer))
    assert least <= state_bytes(config, adapters) <= most


def test_sizes_are_readable() -> None:
    assert [size(n) for n in (5.1353e9, 85.13e6, 12_000)] == ["5.14 GB", "85.1 MB", "12 kB"]
