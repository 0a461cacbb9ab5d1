"""Sampling with the half-trained model, and with the original, between training steps."""

import comfy.model_management
import pytest
import torch
import trustopt_test_models as tiny
from comfy.patcher_extension import WrappersMP
from trustopt_pack.nodes.bridge.host import ComfyHost


def train(family: str, between, *, steps: int = 3):
    """Train some steps, calling ``between(host, patcher)`` after each; return all weights."""
    patcher = tiny.build(family)
    host = ComfyHost(patcher, object(), object())
    adapters = tiny.adapters(host)
    parameters = tiny.trained(adapters)
    optimizer = torch.optim.AdamW(parameters, lr=1e-3)
    with torch.inference_mode(True), host.session(adapters, checkpointing=True):
        for _ in range(steps):
            output = host.denoise(*tiny.batch(family))
            (output - tiny.latents(family, 2, seed=9)).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            between(host, patcher)
    return [p.detach().clone() for p in parameters]


@pytest.mark.parametrize("family", ["sdxl", "flux"])
def test_sampling_changes_nothing_about_training(family) -> None:
    samples = []

    def look(host, patcher) -> None:
        with host.sampling() as half_trained:
            assert comfy.model_management.in_training is False
            samples.append(tiny.sample(half_trained, family))
        samples.append(tiny.sample(patcher, family))

    quiet = train(family, lambda *_: None)
    looked_at = train(family, look)

    assert all(torch.equal(a, b) for a, b in zip(quiet, looked_at, strict=True))
    trained_samples, original_samples = samples[::2], samples[1::2]
    assert all(torch.equal(s, original_samples[0]) for s in original_samples)
    assert not torch.equal(trained_samples[0], trained_samples[1])
    assert torch.equal(original_samples[0], tiny.sample(tiny.build(family), family))


def test_eviction_between_steps_changes_nothing() -> None:
    quiet = train("flux", lambda *_: None)
    evicted = train("flux", lambda *_: comfy.model_management.unload_all_models())

    assert all(torch.equal(a, b) for a, b in zip(quiet, evicted, strict=True))


def test_sampling_keeps_the_global_random_state() -> None:
    host = ComfyHost(tiny.build("flux"), object(), object())
    with host.session(tiny.adapters(host), checkpointing=True):
        before = torch.random.get_rng_state()
        with host.sampling() as half_trained:
            tiny.sample(half_trained, "flux")
        assert torch.equal(torch.random.get_rng_state(), before)


def test_a_compiled_model_samples_with_its_adapters() -> None:
    """The compiled network is another module, without them."""

    def compiled(*args, **kwargs) -> None:
        raise AssertionError("the compiled network was sampled")

    patcher = tiny.build("sdxl")
    patcher.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "torch.compile", compiled)
    host = ComfyHost(patcher, object(), object())
    with host.session(tiny.adapters(host), checkpointing=True), host.sampling() as half_trained:
        tiny.sample(half_trained, "sdxl")
    with pytest.raises(AssertionError, match="compiled network"):
        tiny.sample(patcher, "sdxl")  # the user's own MODEL is as it was


def test_random_numbers_repeat_in_the_recomputation() -> None:
    found = []
    for checkpointing in (False, True):
        host = ComfyHost(tiny.build("flux"), object(), object())
        with torch.random.fork_rng():
            torch.random.default_generator.manual_seed(4)
            adapters = tiny.adapters(host, dropout=0.5)
            found.append(tiny.train_step(host, adapters, checkpointing=checkpointing)[1])

    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_the_users_attention_samples_but_does_not_train() -> None:
    """Sage-like attention gives queries and keys no gradient."""
    calls = []

    def undifferentiable(function, *args, **kwargs) -> torch.Tensor:
        calls.append(torch.is_grad_enabled())
        with torch.no_grad():
            return function(*args, **kwargs)

    plain_host = ComfyHost(tiny.build("sdxl"), object(), object())
    adapters = tiny.adapters(plain_host)
    _, wanted = tiny.train_step(plain_host, adapters)
    patcher = tiny.build("sdxl")
    options = patcher.model_options["transformer_options"]
    options["optimized_attention_override"] = undifferentiable
    host = ComfyHost(patcher, object(), object())

    _, found = tiny.train_step(host, adapters)
    assert calls == []
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))

    with host.session(adapters, checkpointing=True), host.sampling() as half_trained:
        tiny.sample(half_trained, "sdxl")
    assert calls
    assert not any(calls)
