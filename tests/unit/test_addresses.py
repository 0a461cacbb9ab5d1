"""Mirrors trustopt/addresses.py."""

import torch
from torch import nn

from trustopt.addresses import WeightAddresses

CPU, META = torch.device("cpu"), torch.device("meta")


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2, bias=False))


def test_weights_that_stay_have_the_same_addresses() -> None:
    made = network()
    addresses = WeightAddresses(made)
    before = addresses.on(CPU)
    assert len(before) == len(list(made.parameters())) + len(list(made.buffers()))
    with torch.no_grad():
        made[0].weight.add_(1.0)
    assert addresses.on(CPU) == before


def test_a_replaced_parameter_is_noticed() -> None:
    made = network()
    addresses = WeightAddresses(made)
    before = addresses.on(CPU)
    kept = made[2].weight  # its memory must not be given to the new one
    made[2].weight = nn.Parameter(kept.detach().clone())
    assert addresses.on(CPU) != before


def test_a_moved_buffer_is_noticed() -> None:
    made = network()
    addresses = WeightAddresses(made)
    before, kept = addresses.on(CPU), made[1].running_mean
    made[1].running_mean = kept.clone()
    assert addresses.on(CPU) != before


def test_a_weight_elsewhere_has_no_place() -> None:
    made = network()
    addresses = WeightAddresses(made)
    assert addresses.on(META) is None
    made[0].to("meta")
    assert addresses.on(CPU) is None
    assert WeightAddresses(made.to("meta")).on(META) is not None
