"""The raw output's meaning, and batches of unlike images."""

import math

import comfy.ldm.modules.attention
import comfy.model_sampling
import pytest
import torch
import trustopt_test_models as tiny
from comfy.patcher_extension import WrappersMP
from trustopt_pack.nodes.bridge.host import ComfyHost
from trustopt_pack.trustopt.host import Conditioning, Geometry

PREDICTIONS = {
    "eps": ("sdxl", {}),
    "v": ("sdxl", {"v_pred": torch.tensor([])}),
    "v-zsnr": ("sdxl", {"v_pred": torch.tensor([]), "ztsnr": torch.tensor([])}),
    "flow": ("flux", {}),
}


def host_of(patcher) -> ComfyHost:
    return ComfyHost(patcher, object(), object())


def one_image(family: str, seed: int = 1, tokens: int = 8, width: int = 640) -> Conditioning:
    geometry = Geometry(original=(width, 480), crop=(seed, 0), target=(64, 64))
    prompt = tiny.prompt(family, seed=seed, tokens=tokens)
    return Conditioning(prompts=[prompt], geometry=[geometry], guidance=2.0)


def denoised_by_comfyui(patcher, noised, sigma, conditioning) -> torch.Tensor:
    """Run the network the way ComfyUI's samplers do and return its x0 estimate."""
    network = patcher.model
    prompt, geometry = conditioning.prompts[0], conditioning.geometry[0]
    made = network.extra_conds(
        cross_attn=prompt["context"][None],
        pooled_output=prompt["pooled"][None],
        guidance=conditioning.guidance,
        width=geometry.original[0],
        height=geometry.original[1],
        crop_w=geometry.crop[0],
        crop_h=geometry.crop[1],
        target_width=geometry.target[0],
        target_height=geometry.target[1],
        noise=noised,
        device=noised.device,
    )
    options = {
        "optimized_attention_override": lambda _, *args, **kwargs: (
            comfy.ldm.modules.attention.attention_pytorch(*args, **kwargs)
        )
    }
    arguments = {name: condition.cond for name, condition in made.items()}
    with torch.no_grad():
        return network.apply_model(noised, sigma, transformer_options=options, **arguments)


@pytest.mark.parametrize("name", list(PREDICTIONS))
def test_raw_output_is_what_comfyui_denoises_with(name) -> None:
    family, state = PREDICTIONS[name]
    patcher = tiny.build(family, state=state)
    host = host_of(patcher)
    prediction = name.split("-")[0]
    assert host.prediction == prediction
    levels = [0.1, 0.9] if family == "flux" else [0.05, 3.0, float(host.sigmas[-1])]
    conditioning = one_image(family)

    for level in levels:
        sigma = torch.tensor([level])
        x = tiny.latents(family) * max(level, 1.0)
        with host.session({}, checkpointing=False), torch.no_grad():
            raw = host.denoise(x, sigma, conditioning)
        wanted = denoised_by_comfyui(patcher, x, sigma, conditioning)
        if prediction == "v":
            root = math.sqrt(level**2 + 1.0)
            denoised = x / root**2 - raw * level / root
        else:  # eps and flow: x = x0 + sigma * output
            denoised = x - level * raw
        torch.testing.assert_close(denoised, wanted, rtol=1e-4, atol=1e-4)


def test_noise_levels_are_the_loaded_models() -> None:
    eps, zsnr = (host_of(tiny.build("sdxl", state=PREDICTIONS[n][1])) for n in ("eps", "v-zsnr"))
    flux = host_of(tiny.build("flux"))

    for host in (eps, zsnr):
        assert host.sigmas.shape == (1000,)
        assert host.sigmas.dtype == torch.float32
        assert (host.sigmas.diff() > 0).all()
        assert host.flow_shift is None
    assert float(eps.sigmas[0]) == pytest.approx(0.0292, abs=1e-4)
    assert float(eps.sigmas[-1]) == pytest.approx(14.6146, abs=1e-3)
    assert float(zsnr.sigmas[-1]) == pytest.approx(4518.76, rel=1e-3)
    assert flux.sigmas is None
    assert flux.flow_shift == pytest.approx(1.15)


def test_sampling_settings_on_the_model_are_in_force() -> None:
    patcher = tiny.build("flux").clone()
    settings = comfy.model_sampling.ModelSamplingFlux(patcher.model.model_config)
    settings.set_parameters(shift=0.5)

    class Sampling(comfy.model_sampling.ModelSamplingFlux, comfy.model_sampling.CONST):
        pass

    sampling = Sampling(patcher.model.model_config)
    sampling.set_parameters(shift=0.5)
    patcher.add_object_patch("model_sampling", sampling)

    assert host_of(patcher).flow_shift == pytest.approx(0.5)


@pytest.mark.parametrize(
    "tokens", [(8, 8), (8, 16), (6, 9), (3, 50)], ids=lambda t: f"{t[0]}+{t[1]}"
)
@pytest.mark.parametrize("family", ["sdxl", "flux"])
def test_batch_equals_its_images_run_alone(family, tokens) -> None:
    host = host_of(tiny.build(family))
    adapters = tiny.adapters(host)
    singles = [
        one_image(family, seed=i + 1, tokens=count, width=300 * (i + 1))
        for i, count in enumerate(tokens)
    ]
    both = Conditioning(
        prompts=[s.prompts[0] for s in singles],
        geometry=[s.geometry[0] for s in singles],
        guidance=2.0,
    )
    x = tiny.latents(family, 2)
    sigma = torch.tensor([0.2, 0.7])

    def gradients(output: torch.Tensor) -> list[torch.Tensor]:
        return list(torch.autograd.grad(output.square().sum(), tiny.trained(adapters)))

    with host.session(adapters, checkpointing=True):
        batch = host.denoise(x, sigma, both)
        alone = torch.cat(
            [host.denoise(x[i : i + 1], sigma[i : i + 1], s) for i, s in enumerate(singles)]
        )
        torch.testing.assert_close(batch, alone, rtol=1e-4, atol=1e-4)
        swapped = host.denoise(
            x, sigma, Conditioning(prompts=both.prompts[::-1], geometry=both.geometry, guidance=2.0)
        )
        assert not torch.allclose(batch, swapped, rtol=1e-2, atol=1e-2)
        for one, other in zip(gradients(batch), gradients(alone), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


def test_size_labels_and_guidance_reach_the_network() -> None:
    for family, changed in (
        ("sdxl", one_image("sdxl", width=999)),
        (
            "flux",
            Conditioning(
                prompts=one_image("flux").prompts,
                geometry=one_image("flux").geometry,
                guidance=9.0,
            ),
        ),
    ):
        host = host_of(tiny.build(family))
        x, sigma = tiny.latents(family), torch.tensor([0.5])
        with host.session({}, checkpointing=False), torch.no_grad():
            base = host.denoise(x, sigma, one_image(family))
            assert not torch.allclose(base, host.denoise(x, sigma, changed), rtol=1e-4)


def test_counts_must_agree() -> None:
    host = host_of(tiny.build("flux"))
    x, sigma, one = tiny.latents("flux", 2), torch.tensor([0.5, 0.5]), one_image("flux")
    counts = pytest.raises(ValueError, match=r"^a batch needs one prompt and one geometry an image")
    with host.session({}, checkpointing=False), counts:
        host.denoise(x, sigma, one)


def test_wrappers_on_the_model_run_but_not_those_for_speed() -> None:
    patcher = tiny.build("flux")
    ran = []

    def halve(executor, *args, **kwargs):
        ran.append("network")
        return executor(*args, **kwargs) * 0.5

    def watch(executor, *args, **kwargs):
        ran.append("apply")
        return executor(*args, **kwargs)

    def wrong(executor, *args, **kwargs):
        raise AssertionError("only samplers may use this")

    x, sigma = tiny.latents("flux"), torch.tensor([0.5])
    host = host_of(patcher)
    with host.session({}, checkpointing=False), torch.no_grad():
        plain = host.denoise(x, sigma, one_image("flux"))
    patcher.add_wrapper(WrappersMP.DIFFUSION_MODEL, halve)
    patcher.add_wrapper(WrappersMP.APPLY_MODEL, watch)
    patcher.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "torch.compile", wrong)
    patcher.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "easycache", wrong)
    with host.session({}, checkpointing=False), torch.no_grad():
        halved = host.denoise(x, sigma, one_image("flux"))

    assert ran == ["apply", "network"]
    torch.testing.assert_close(halved, plain * 0.5)
    assert patcher.get_all_wrappers(WrappersMP.APPLY_MODEL) == [watch, wrong]
