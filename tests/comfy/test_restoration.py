"""The MODEL comes back bit for bit, whatever ends a session."""

import comfy.model_management
import comfy.sd
import pytest
import torch
import trustopt_test_models as tiny
from trustopt_pack.nodes.bridge.host import ComfyHost


def host_of(patcher) -> ComfyHost:
    return ComfyHost(patcher, object(), object())


def lora_file(patcher) -> dict[str, torch.Tensor]:
    """Return a LoRA as a loader node reads it: in inference mode."""
    file = tiny.kohya(tiny.adapters(host_of(patcher), seed=11))
    with torch.inference_mode(True):
        return {key: tensor.clone() for key, tensor in file.items()}


def plain(patcher):
    return patcher


def merged(patcher):
    file = lora_file(patcher)
    with torch.inference_mode(True):
        return comfy.sd.load_lora_for_models(patcher, None, file, 0.7, 0.0)[0]


def bypass(patcher):
    file = lora_file(patcher)
    with torch.inference_mode(True):
        return comfy.sd.load_bypass_lora_for_models(patcher, None, file, 0.7, 0.0)[0]


@pytest.mark.parametrize("storage", list(tiny.STORAGE))
@pytest.mark.parametrize("family", ["sdxl", "flux"])
def test_model_is_the_same_after_training(family, storage) -> None:
    patcher = tiny.build(family, storage)
    before_sample = tiny.sample(patcher, family)
    before = tiny.fingerprint(patcher)
    host = host_of(patcher)
    adapters = tiny.adapters(host, names=set(list(host.layers())[2:40:3]))

    for _ in range(2):
        tiny.train_step(host, adapters)

    assert tiny.fingerprint(patcher) == before
    assert torch.equal(tiny.sample(patcher, family), before_sample)


@pytest.mark.parametrize("prepare", [merged, bypass])
@pytest.mark.parametrize("family", ["sdxl", "flux"])
def test_model_with_a_lora_trains_on_top_and_keeps_it(family, prepare) -> None:
    base = tiny.build(family)
    untouched = tiny.sample(base, family)
    patcher = prepare(base)
    before_sample = tiny.sample(patcher, family)
    assert not torch.equal(before_sample, untouched)
    before = tiny.fingerprint(patcher)
    host = host_of(patcher)
    adapters = tiny.adapters(host, seed=12)

    output, found = tiny.train_step(host, adapters)

    assert all(g.norm() > 0 for g in found)
    without, _ = tiny.train_step(host_of(base), adapters)
    assert not torch.allclose(output, without, rtol=1e-3)
    assert torch.equal(tiny.sample(patcher, family), before_sample)
    assert tiny.fingerprint(patcher) == before
    assert torch.equal(tiny.sample(base, family), untouched)
    comfy.model_management.unload_all_models()
    for module in base.model.modules():  # a bypass LoRA leaves the layer's own method behind
        assert module.__dict__.get("forward", module.forward).__self__ is module


def test_training_on_a_merged_and_on_a_bypass_lora_is_the_same() -> None:
    results = []
    for prepare in (merged, bypass):
        patcher = prepare(tiny.build("flux"))
        host = host_of(patcher)
        results.append(tiny.train_step(host, tiny.adapters(host, seed=12)))

    (output, found), (other_output, other_found) = results
    torch.testing.assert_close(output, other_output, rtol=1e-4, atol=1e-4)
    for one, other in zip(found, other_found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


class Adapter(torch.nn.Module):
    """Passes its layer's output on and, once told to, fails in forward or in backward."""

    def __init__(self, failure) -> None:
        super().__init__()
        self.base_layer = torch.nn.Identity()
        self.scale = torch.nn.Parameter(torch.ones(()))
        self.failure = failure

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.failure == "forward interrupt":
            comfy.model_management.interrupt_current_processing(True)
        elif isinstance(self.failure, BaseException):
            raise self.failure
        return self.base_layer(x) * self.scale


FAILURES = {
    "error": (ValueError("a patch failed"), ValueError),
    "out of memory": (torch.OutOfMemoryError("none left"), torch.OutOfMemoryError),
    "keyboard": (KeyboardInterrupt(), KeyboardInterrupt),
    "stop in forward": (
        "forward interrupt",
        comfy.model_management.InterruptProcessingException,
    ),
    "stop in backward": (
        "backward interrupt",
        comfy.model_management.InterruptProcessingException,
    ),
}


def fail(host, adapters: dict, *, stop_in_backward: bool) -> None:
    """Open a session and run forward and backward, one of which fails."""
    with host.session(adapters, checkpointing=True):
        output = host.denoise(*tiny.batch(host.family))
        if stop_in_backward:
            stop = comfy.model_management.interrupt_current_processing
            output.register_hook(lambda _: stop(True))
        output.sum().backward()


@pytest.mark.parametrize(
    ("family", "name", "prepare"),
    [
        *((family, name, plain) for family in ("sdxl", "flux") for name in FAILURES),
        ("sdxl", "stop in backward", merged),
        ("flux", "stop in backward", bypass),
        ("sdxl", "out of memory", bypass),
        ("flux", "out of memory", merged),
    ],
)
def test_model_is_the_same_after_a_failure(family, name, prepare) -> None:
    failure, kind = FAILURES[name]
    patcher = prepare(tiny.build(family))
    before_sample = tiny.sample(patcher, family)
    before = tiny.fingerprint(patcher)
    host = host_of(patcher)
    layer = {"sdxl": "middle_block.1.proj_in", "flux": "single_blocks.0.linear1"}[family]
    adapters = {layer: Adapter(failure)}
    stand_in = adapters[layer].base_layer

    with pytest.raises(kind), torch.inference_mode(True):
        fail(host, adapters, stop_in_backward=failure == "backward interrupt")

    comfy.model_management.interrupt_current_processing(False)
    assert comfy.model_management.in_training is False
    assert adapters[layer].base_layer is stand_in
    assert tiny.fingerprint(patcher) == before
    assert torch.equal(tiny.sample(patcher, family), before_sample)
    with host.session(tiny.adapters(host), checkpointing=False):
        assert host.denoise(*tiny.batch(family)).isfinite().all()


def test_unknown_layer_is_refused_and_nothing_is_left() -> None:
    patcher = tiny.build("flux")
    before = tiny.fingerprint(patcher)
    adapter = tiny.adapters(host_of(patcher), names={"img_in"})["img_in"]

    session = host_of(patcher).session({"no.such.layer": adapter}, checkpointing=True)
    with pytest.raises(ValueError, match=r"^adapters for no\.such\.layer .* fit no layer"):
        session.__enter__()

    assert tiny.fingerprint(patcher) == before


def test_adapters_made_in_inference_mode_are_refused() -> None:
    host = host_of(tiny.build("flux"))
    with torch.inference_mode(True):
        adapters = tiny.adapters(host, names={"img_in"})

    with pytest.raises(RuntimeError, match="inference mode"):
        host.session(adapters, checkpointing=True).__enter__()


def test_one_session_at_a_time_and_none_outside() -> None:
    host = host_of(tiny.build("flux"))
    adapters = tiny.adapters(host, names={"img_in"})
    refused = pytest.raises(RuntimeError, match="already has a session")
    with host.session(adapters, checkpointing=True), refused:
        host.session(adapters, checkpointing=True).__enter__()
    with pytest.raises(RuntimeError, match="no session is open"):
        host.denoise(*tiny.batch("flux"))


def test_adapters_stay_the_objects_they_were() -> None:
    host = host_of(tiny.build("sdxl"))
    adapters = tiny.adapters(host, names={"middle_block.1.proj_in"})
    before = [(id(p), p.device, p.detach().clone()) for p in tiny.trained(adapters)]
    bases = [a.base_layer for a in adapters.values()]

    _, gradients = tiny.train_step(host, adapters)

    after = tiny.trained(adapters)
    assert [(i, d) for i, d, _ in before] == [(id(p), p.device) for p in after]
    assert all(torch.equal(value, p) for (_, _, value), p in zip(before, after, strict=True))
    assert all(torch.equal(p.grad, g) for p, g in zip(after, gradients, strict=True))
    assert all(a.base_layer is b for a, b in zip(adapters.values(), bases, strict=True))


def test_a_base_left_trainable_gets_no_gradient() -> None:
    patcher = tiny.build("flux")
    layer = patcher.model.diffusion_model.txt_in
    layer.bias = torch.nn.Parameter(layer.bias.clone(), requires_grad=True)
    host = host_of(patcher)

    tiny.train_step(host, tiny.adapters(host))

    assert layer.bias.grad is None
    assert layer.bias.requires_grad


def test_global_random_state_is_untouched() -> None:
    host = host_of(tiny.build("sdxl"))
    adapters = tiny.adapters(host)
    before = torch.random.get_rng_state()

    tiny.train_step(host, adapters)

    assert torch.equal(torch.random.get_rng_state(), before)
