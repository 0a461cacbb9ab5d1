"""What a loaded MODEL is: its family, what its network predicts, its file name."""

import math
from pathlib import Path
from typing import Any

import comfy.model_sampling
from torch import Tensor

from ...trustopt.host import Family, Prediction

# Class of the network in comfy.model_base -> family.
_FAMILIES: dict[str, Family] = {"SDXL": "sdxl", "Flux": "flux"}

_NEAR_MISSES = {
    "Chroma": "its blocks have no modulation layers and it takes no CLIP vector",
    "ChromaRadiance": "it works on pixels, not on latents",
    "Flux2": "it has other blocks, another VAE and another text encoder than FLUX.1",
    "LongCatImage": "it has another text encoder than FLUX.1",
    "SDXLRefiner": "it is SDXL's second stage, with one text encoder and its own labels",
    "SDXL_instructpix2pix": "it needs a source picture besides the caption",
}

_ADVICE = "TrustOpt trains SDXL and FLUX.1 (dev, schnell, Kontext): load such a checkpoint"


def family_of(model: Any) -> Family:
    """Return the family of a MODEL.

    FLUX.1 Kontext has FLUX.1's layers and is trained like it, without reference pictures.

    Args:
        model: ComfyUI's MODEL, a ModelPatcher.

    Raises:
        ValueError: If it is neither SDXL nor FLUX.1, or a variant with more inputs than latents
            and a caption; the first line says which it is.
    """
    network = model.model
    config = getattr(network, "model_config", None)
    name = type(config).__name__ if config is not None else type(network).__name__
    classes = [c.__name__ for c in type(network).__mro__ if c.__module__ == "comfy.model_base"]
    known = classes[0] if classes else type(network).__name__
    if known not in _FAMILIES:
        reason = f" ({_NEAR_MISSES[known]})" if known in _NEAR_MISSES else ""
        raise ValueError(f"MODEL is {name}{reason}, which is not trained here. {_ADVICE}")
    channels = config.unet_config["in_channels"]
    if channels != network.latent_format.latent_channels:
        raise ValueError(
            f"MODEL is {name} for inpainting, depth or edges (it reads {channels} channels, not "
            f"{network.latent_format.latent_channels}), which is not trained here. {_ADVICE}"
        )
    return _FAMILIES[known]


def prediction_of(sampling: Any) -> Prediction:
    """Return what the network's raw output means, from the MODEL's ``model_sampling``.

    The test is the function that turns the output into denoised latents, since subclasses (LCM,
    EDM, x0) keep the base's name and change just that.

    Raises:
        ValueError: If the model predicts something else, or noises its latents otherwise.
    """
    predictions: dict[Any, Prediction] = {
        comfy.model_sampling.EPS.calculate_denoised: "eps",
        comfy.model_sampling.V_PREDICTION.calculate_denoised: "v",
        comfy.model_sampling.CONST.calculate_denoised: "flow",
    }
    prediction = predictions.get(type(sampling).calculate_denoised)
    plain = getattr(sampling, "sigma_data", 1.0) == 1.0 == getattr(sampling, "noise_scale", 1.0)
    if prediction is None or not plain:
        kinds = ", ".join(base.__name__ for base in type(sampling).__bases__)
        raise ValueError(
            f"MODEL samples as {kinds or type(sampling).__name__}, which has no training loss "
            "here. eps, v-prediction and flow are allowed: remove the LCM, EDM or x0 "
            "ModelSampling node in front of the trainer, or load another checkpoint"
        )
    return prediction


def noise_levels_of(sampling: Any, prediction: Prediction) -> Tensor | None:
    """Return the ascending sigmas, float32 ``(1000,)`` on the CPU; None for flow."""
    if prediction == "flow":
        return None
    return sampling.sigmas.detach().to("cpu").float().clone()


def flow_shift_of(sampling: Any, prediction: Prediction) -> float | None:
    """Return mu, ``exp(mu)`` being the factor that shifts flow's levels; None for eps and v."""
    if prediction != "flow":
        return None
    if isinstance(sampling, comfy.model_sampling.ModelSamplingFlux):
        return float(sampling.shift)  # this class holds mu, the others its exponential
    return math.log(sampling.shift)


def model_name_of(model: Any) -> str:
    """Return the file name a MODEL was loaded from, or its class where no loader left it."""
    loader = getattr(model, "cached_patcher_init", None)
    paths = [argument for argument in (loader[1] if loader else ()) if isinstance(argument, str)]
    return Path(paths[0]).name if paths else type(model.model.model_config).__name__
