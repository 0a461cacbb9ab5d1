"""The headless host: contract, exact gradients, and a base model that is never changed."""

import copy
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch.func import functional_call

from trustopt.adapters.build import build_adapters
from trustopt.config import AdapterConfig
from trustopt.host import Host
from trustopt.hosts.conversion import to_diffusers
from trustopt.hosts.loading import load_tiny


def adapters_of(host, names=None, *, algorithm="lora", seed=1):
    """Return adapters whose change is not zero."""
    layers = host.layers()
    chosen = {name: layers[name] for name in names or layers if name in layers}
    if names is None:
        chosen = {n: s for n, s in chosen.items() if not n.startswith("te")}
    generator = torch.Generator().manual_seed(seed)
    adapters = build_adapters(
        chosen, AdapterConfig(rank=4, conv_rank=4, algorithm=algorithm), generator
    )
    with torch.no_grad():
        for parameter in adapters.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return adapters


def snapshot(host):
    """Return every tensor of the host and the class of every module, by name."""
    modules = [host.network, host.vae, *host.text.models.values()]
    tensors = [{n: t.clone() for n, t in m.state_dict().items()} for m in modules]
    classes = [{n: type(child) for n, child in m.named_modules()} for m in modules]
    flags = [[p.requires_grad for p in m.parameters()] for m in modules]
    hooks = [
        [len(child._forward_pre_hooks) + len(child._forward_hooks) for child in m.modules()]
        for m in modules
    ]
    checkpoints = [
        [getattr(child, "gradient_checkpointing", None) for child in m.modules()] for m in modules
    ]
    return tensors, classes, flags, hooks, checkpoints


def assert_same(before, after):
    assert before[1:] == after[1:]
    for old, new in zip(before[0], after[0], strict=True):
        assert old.keys() == new.keys()
        assert all(torch.equal(old[name], new[name]) for name in old)


def relative_error(actual, expected):
    return ((actual - expected).norm() / expected.norm()).item()


def test_is_a_host(host):
    assert isinstance(host, Host)
    assert host.identity().keys() >= {"name", "family", "vae", "text_encoders"}
    names = list(host.layers())
    assert names == sorted(names)


def test_layers_are_the_files_layers(sdxl, flux):
    assert flux.layers()["double_blocks.1.img_attn.qkv"].out_features == 3 * 128
    assert flux.layers()["single_blocks.0.linear1"].out_features == 7 * 128
    assert not any(name.startswith("te") for name in flux.layers())
    conv = sdxl.layers()["input_blocks.3.0.op"]
    assert (conv.kind, conv.kernel_size, conv.stride, conv.padding) == (
        "conv2d",
        (3, 3),
        (2, 2),
        (1, 1),
    )
    assert "te1.text_model.encoder.layers.0.self_attn.q_proj" in sdxl.layers()
    assert "te2.text_model.encoder.layers.2.mlp.fc2" in sdxl.layers()


def reference_gradients(host, adapters, batch):
    """Return the gradients of a plain forward whose weights have the change added to them.

    Neither session nor stand-ins nor checkpointing: the change ``s B A`` goes into the weights
    of a copy of the network, split to diffusers' modules by the table.
    """
    plain = load_tiny(host.family, pretrained=False)
    names = plain._denoiser.names
    leaves, changes = {}, {}
    for layer, adapter in adapters.layers.items():
        down = adapter.lora_A["default"].weight.detach().clone().requires_grad_()
        up = adapter.lora_B["default"].weight.detach().clone().requires_grad_()
        leaves[layer] = (down, up)
        product = (up.flatten(1) @ down.flatten(1)) * adapter.scaling["default"]
        changes[f"{layer}.weight"] = product.view(up.shape[0], *down.shape[1:])
    weights = dict(plain.network.named_parameters())
    for name, change in to_diffusers(changes, names).items():
        weights[name] = weights[name] + change
    network = plain._denoiser.network

    class Plain(torch.nn.Module):
        """Calls the network with the changed weights."""

        def __getattr__(self, name):
            return getattr(network, name)

        def forward(self, *args, **kwargs):
            return functional_call(network, weights, args, kwargs)

    plain._denoiser.network = Plain()
    loss = (batch.run(plain) - batch.target).square().mean()
    loss.backward()
    return loss.item(), {layer: (a.grad, b.grad) for layer, (a, b) in leaves.items()}


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_equal_a_plain_loop(host, make_batch, checkpointing):
    batch = make_batch(host)
    adapters = adapters_of(host)
    expected_loss, expected = reference_gradients(host, adapters, batch)

    with host.session(adapters.layers, checkpointing=checkpointing):
        loss = (batch.run(host) - batch.target).square().mean()
        loss.backward()

    assert loss.item() == pytest.approx(expected_loss, rel=1e-6)
    for name, adapter in adapters.layers.items():
        down, up = expected[name]
        actual = adapter.lora_A["default"].weight.grad, adapter.lora_B["default"].weight.grad
        assert relative_error(actual[0], down) < 1e-5, name
        assert relative_error(actual[1], up) < 1e-5, name


@pytest.mark.parametrize("algorithm", ["lora", "loha", "lokr", "dora", "oft"])
def test_checkpointing_changes_no_gradient(flux, make_batch, algorithm):
    batch = make_batch(flux)
    names = ["double_blocks.0.img_attn.qkv", "single_blocks.1.linear1", "single_blocks.1.linear2"]
    gradients = []
    for checkpointing in (False, True):
        adapters = adapters_of(flux, names, algorithm=algorithm)
        with flux.session(adapters.layers, checkpointing=checkpointing):
            batch.run(flux).square().mean().backward()
        gradients.append([p.grad for p in adapters.parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        assert plain.abs().max() > 0
        assert torch.equal(plain, recomputed)


def test_a_fused_layer_runs_once_a_forward_and_again_when_recomputed(flux, make_batch):
    batch = make_batch(flux)
    names = ["double_blocks.0.txt_attn.qkv", "single_blocks.3.linear1"]
    for checkpointing, expected in ((False, 1), (True, 2)):
        adapters = adapters_of(flux, names)
        runs = dict.fromkeys(names, 0)

        def count(module, args, *, name, runs=runs):
            runs[name] += 1

        for name, adapter in adapters.layers.items():
            adapter.register_forward_pre_hook(partial(count, name=name))
        with flux.session(adapters.layers, checkpointing=checkpointing):
            batch.run(flux).sum().backward()
        assert runs == dict.fromkeys(names, expected)


def test_a_change_of_zero_changes_no_bit(host, make_batch):
    batch = make_batch(host)
    base = batch.run(host)
    adapters = adapters_of(host)
    adapters.zero_delta()
    with host.session(adapters.layers, checkpointing=True):
        output = batch.run(host)
        assert output.requires_grad
        assert torch.equal(output, base)


def test_a_session_ends_without_a_trace(host, make_batch):
    batch = make_batch(host)
    base, before = batch.run(host), snapshot(host)
    adapters = adapters_of(host)
    with host.session(adapters.layers, checkpointing=True):
        changed = batch.run(host)
        changed.mean().backward()
        assert not torch.equal(changed, base)
    assert_same(before, snapshot(host))
    assert torch.equal(batch.run(host), base)
    assert all(adapter.base_layer is None for adapter in adapters.layers.values())


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, torch.OutOfMemoryError])
def test_an_error_ends_the_session_without_a_trace(host, make_batch, error):
    batch = make_batch(host)
    base, before = batch.run(host), snapshot(host)
    adapters = adapters_of(host)

    def stop(grad):
        raise error("in the middle of backward")

    def train():
        with host.session(adapters.layers, checkpointing=True):
            batch.run(host).mean().backward()

    adapters.parameters()[0].register_hook(stop)
    with pytest.raises(error):
        train()

    assert_same(before, snapshot(host))
    assert torch.equal(batch.run(host), base)
    with host.session({}, checkpointing=False):
        assert torch.equal(batch.run(host), base)


def test_unknown_layers_are_named_before_anything_happens(host):
    before = snapshot(host)
    with (
        pytest.raises(ValueError, match=r"has no layer 'nonsense\.0'"),
        host.session({"nonsense.0": torch.nn.Identity()}, checkpointing=False),
    ):
        pass
    assert_same(before, snapshot(host))


def test_one_session_at_a_time(host):
    with (
        host.session({}, checkpointing=False),
        pytest.raises(RuntimeError, match="being trained already"),
        host.session({}, checkpointing=False),
    ):
        pass


def test_global_generator_untouched(host, make_batch):
    batch = make_batch(host)
    before = torch.get_rng_state()
    load_tiny(host.family)
    adapters = adapters_of(host)
    with host.session(adapters.layers, checkpointing=True):
        batch.run(host).mean().backward()
    host.decode_latents(host.encode_images(torch.rand(1, 3, 64, 64, generator=_generator())).mean)
    assert torch.equal(torch.get_rng_state(), before)


def _generator():
    return torch.Generator().manual_seed(3)


def test_encoding_does_not_depend_on_the_batch(host):
    pixels = torch.rand(3, 3, 64, 96, generator=_generator())
    together = host.encode_images(pixels)
    alone = host.encode_images(pixels[1:2])
    assert together.mean.shape == (3, host.latent_channels, 8, 12)
    assert torch.equal(together.mean[1:2], alone.mean)
    assert torch.equal(together.std[1:2], alone.std)
    prompts, one = host.encode_prompts(["cat", "a long dog"]), host.encode_prompts(["a long dog"])
    assert torch.equal(prompts[1]["context"], one[0]["context"])
    assert prompts[0]["context"].device.type == "cpu"


def test_decoding_gives_pixels(host):
    latents = torch.randn(2, host.latent_channels, 8, 12, generator=_generator())
    pixels = host.decode_latents(latents)
    assert pixels.shape == (2, 3, 64, 96)
    assert 0.0 <= pixels.min() < pixels.max() <= 1.0


def test_every_condition_counts(host, make_batch):
    batch = make_batch(host)
    base = batch.run(host)
    conditions = {
        "sdxl": ["prompts", "original", "crop", "target"],
        "flux": ["prompts", "guidance"],
    }
    for what in conditions[host.family]:
        changed = copy.copy(batch)
        changed.conditioning = _changed(batch.conditioning, what)
        assert not torch.allclose(changed.run(host), base), what


def _changed(conditioning, what):
    if what == "prompts":
        return replace(conditioning, prompts=list(reversed(conditioning.prompts)))
    if what == "guidance":
        return replace(conditioning, guidance=1.0)
    first, second = conditioning.geometry
    return replace(conditioning, geometry=[replace(first, **{what: (7, 9)}), second])


def test_prompts_of_two_lengths_in_one_batch(sdxl, make_batch):
    batch = make_batch(sdxl)
    short, long = sdxl.encode_prompts(["cat", "word " * 80])
    assert (len(short["context"]), len(long["context"])) == (77, 154)
    both = replace(batch.conditioning, prompts=[short, long])
    alone = replace(batch.conditioning, prompts=[short], geometry=batch.conditioning.geometry[:1])
    together = sdxl.denoise(batch.noised, batch.sigma, both)
    single = sdxl.denoise(batch.noised[:1], batch.sigma[:1], alone)
    torch.testing.assert_close(together[:1], single, rtol=1e-5, atol=1e-6)


def test_flux_prompts_of_two_lengths_are_refused(flux, make_batch):
    batch = make_batch(flux)
    first, second = batch.conditioning.prompts
    shorter = {"context": second["context"][:8], "pooled": second["pooled"]}
    batch.conditioning = replace(batch.conditioning, prompts=[first, shorter])
    with pytest.raises(ValueError, match=r"must have one length, got \[8, 64\] tokens"):
        batch.run(flux)


def test_asked_in_a_session_the_host_answers_the_same(host):
    layers, identity = dict(host.layers()), dict(host.identity())
    with host.session(adapters_of(host).layers, checkpointing=False):
        assert dict(host.layers()) == layers
        assert dict(host.identity()) == identity


@pytest.fixture
def accelerated(sdxl, monkeypatch):
    """Return a host that believes in an accelerator, and where each of its parts is put."""
    places, real = {}, torch.nn.Module.to
    parts = {id(m): part for part, modules in sdxl._parts().items() for m in modules}

    def put(module, *place, **options):
        if id(module) not in parts:
            return real(module, *place, **options)
        places[parts[id(module)]] = str(place[0])
        return module

    monkeypatch.setattr(torch.nn.Module, "to", put)
    monkeypatch.setattr(sdxl, "_place", partial(place_on_meta, sdxl))
    return sdxl, places


def place_on_meta(host, parts):
    """What the host does for a CUDA device; the tensors themselves stay on the CPU."""
    host.device = torch.device("meta")
    type(host)._place(host, parts)
    host.device = torch.device("cpu")


def test_on_an_accelerator_the_parts_take_turns(accelerated, make_batch):
    host, places = accelerated
    on, off = "meta", "cpu"

    host.encode_images(torch.zeros(1, 3, 32, 32))
    assert places == {"network": off, "text": off, "vae": on}
    host.encode_prompts(["a cat"])
    assert places == {"network": off, "text": on, "vae": off}

    # Training finds the encoders gone, and pictures drawn in between leave them gone.
    with host.session({}, checkpointing=False):
        assert places == {"network": on, "text": off, "vae": off}
        host.encode_prompts(["a cat"])
        assert places == {"network": on, "text": off, "vae": off}
        host.decode_latents(torch.zeros(1, 4, 4, 4))
        assert places == {"network": on, "text": off, "vae": off}

    names = ["te1.text_model.encoder.layers.0.self_attn.q_proj"]
    with host.session(adapters_of(host, names).layers, checkpointing=False):
        assert places == {"network": on, "text": on, "vae": off}


def test_text_encoders_train_through_encode_prompts(sdxl):
    names = [
        "te1.text_model.encoder.layers.0.self_attn.q_proj",
        "te2.text_model.encoder.layers.2.mlp.fc2",
    ]
    base, before = sdxl.encode_prompts(["a cat"])[0], snapshot(sdxl)
    adapters = adapters_of(sdxl, names)
    with sdxl.session(adapters.layers, checkpointing=False):
        prompt = sdxl.encode_prompts(["a cat"])[0]
        (prompt["context"].sum() + prompt["pooled"].square().sum()).backward()
    assert all(p.grad.abs().max() > 0 for p in adapters.parameters())
    assert not torch.equal(prompt["context"], base["context"])
    assert_same(before, snapshot(sdxl))
    assert not sdxl.encode_prompts(["a cat"])[0]["context"].requires_grad


@pytest.mark.parametrize("family", ["sdxl", "flux"])
def test_bfloat16_follows_float32(family, make_batch):
    exact, rounded = load_tiny(family), load_tiny(family, dtype=torch.bfloat16)
    batch = make_batch(exact)
    output = batch.run(rounded)
    assert rounded.dtype == torch.bfloat16
    assert output.dtype == torch.float32
    assert rounded.encode_prompts(["cat"])[0]["context"].dtype == torch.bfloat16
    assert relative_error(output, batch.run(exact)) < 0.05
