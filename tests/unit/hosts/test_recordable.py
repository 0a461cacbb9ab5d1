"""What runs in a step at full size can be recorded: it stays on the device and asks for nothing."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from trustopt.adapters import build_adapters, select_layers
from trustopt.cli.bench_train import ADAPTER, LAYOUTS, data_for, empty_network
from trustopt.hosts.diffusers_host import DiffusersHost

sys.path.insert(0, str(Path(__file__).parents[2]))
from device_traffic import DeviceTraffic, test_traffic_is_noticed

META = torch.device("meta")
__all__ = ["test_traffic_is_noticed"]


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("name", ["sdxl", "flux"])
def test_a_forward_and_backward_stay_on_the_device(monkeypatch, name, checkpointing) -> None:
    # A hash of the weights is all that would read them.
    monkeypatch.setattr("trustopt.hosts.diffusers_host._fingerprint", lambda module: "meta")
    layout = LAYOUTS[name]
    denoiser = empty_network(layout)
    denoiser.network.to(torch.bfloat16)
    without_text = SimpleNamespace(models={}, trainable=())
    host = DiffusersHost(denoiser, nn.Identity(), without_text, model_name="meta", device=META)
    adapters = build_adapters(
        select_layers(host.layers(), ADAPTER, host.family),
        ADAPTER,
        torch.Generator(),
        device="meta",
    )
    data = data_for(layout, 1, 512)
    with host.session(adapters.layers, checkpointing=checkpointing):
        prepared = host.prepare(data.latents, torch.full((1,), 0.5), data.conditioning)
        assert {x.device for x in prepared.inputs.values()} == {META}
        with adapters.in_dtype(torch.bfloat16), DeviceTraffic() as traffic:
            prepared().square().mean().backward()
    assert not traffic.found
    assert all(p.grad is not None for p in adapters.parameters())
