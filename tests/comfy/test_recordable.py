"""What runs in a step at full size can be recorded: it stays on the device and asks for nothing."""

from unittest.mock import patch

import comfy.model_base
import pytest
import torch
import trustopt_test_models as tiny
import trustopt_test_simulator as simulator
from trustopt_pack.nodes.bridge.host import ComfyHost
from trustopt_pack.nodes.bridge.session import TrainingSession
from trustopt_pack.trustopt.adapters import build_adapters, select_layers
from trustopt_pack.trustopt.config import AdapterConfig
from trustopt_pack.trustopt.host import Conditioning, Geometry
from trustopt_test_traffic import DeviceTraffic

META = torch.device("meta")


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("family", ["sdxl", "flux"])
def test_a_forward_and_backward_stay_on_the_device(family, checkpointing) -> None:
    config = AdapterConfig(rank=4)
    with META:
        patcher = simulator.network(family, torch.bfloat16)
    model = patcher.model
    # Loaders make the table of noise levels in main memory, and not every load moves it.
    model.model_sampling = comfy.model_base.model_sampling(model.model_config, model.model_type)
    patcher.load_device = patcher.offload_device = META
    host = ComfyHost(patcher, object(), object())
    layers = select_layers(host.layers(), config, family)
    adapters = build_adapters(layers, config, torch.Generator(), device="meta")
    noised, sigma = torch.empty(1, host.latent_channels, 64, 64), torch.ones(1)
    given = simulator.conditioning(family, 512, 1)

    loading = patch("comfy.model_management.load_models_gpu", lambda ps, **_: ps[0].inject_model())
    kept = patch.object(TrainingSession, "ensure_loaded", lambda self: None)
    with loading, kept, host.session(adapters.layers, checkpointing=checkpointing):
        prepared = host.prepare(noised, sigma, given)
        assert {x.device for x in prepared.inputs.values()} == {META}
        with adapters.in_dtype(torch.bfloat16), DeviceTraffic() as traffic:
            prepared().square().mean().backward()
    assert not traffic.found
    assert all(p.grad is not None for p in adapters.parameters())


@pytest.mark.parametrize("family", ["sdxl", "flux"])
def test_one_batchs_forward_on_anothers_inputs_is_the_others(family) -> None:
    """What a recording does: nothing of the batch it was made with stays in it."""
    patcher = tiny.build(family)
    host = ComfyHost(patcher, object(), object())
    adapters = tiny.adapters(host)
    parameters = [p for a in adapters.values() for p in a.parameters() if p.requires_grad]

    def prepared(seed: int, size: int):
        given = Conditioning(
            prompts=[tiny.prompt(family, seed=seed + n) for n in range(2)],
            geometry=[Geometry(original=(size, 64), crop=(seed, 0), target=(64, 64))] * 2,
            guidance=float(seed),
        )
        sigma = torch.tensor([0.2, 0.6]) * seed
        return host.prepare(tiny.latents(family, 2, seed=seed), sigma, given)

    def found(run, inputs) -> list[torch.Tensor]:
        output = run(inputs)
        return [output.detach(), *torch.autograd.grad(output.square().sum(), parameters)]

    with host.session(adapters, checkpointing=False):
        first, second = prepared(1, 64), prepared(3, 96)
        assert first.others == second.others
        assert first.inputs.keys() == second.inputs.keys()
        wanted = found(second.run, second.inputs)
        exchanged, own = (found(first.run, one.inputs) for one in (second, first))
    assert all(torch.equal(a, b) for a, b in zip(exchanged, wanted, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(own, wanted, strict=True))
