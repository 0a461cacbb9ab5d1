"""ComfyUI's MODEL, CLIP and VAE as the engine's host."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import Any

import comfy.model_management
import torch
from torch import Tensor, nn

from ...trustopt.host import (
    PIXEL_MULTIPLES,
    Conditioning,
    Family,
    HostMemory,
    LatentDistribution,
    LayerShape,
    Prediction,
    PreparedForward,
    Prompt,
)
from .conditioning import check_prompt, encode_captions, encode_in_training
from .denoise import inputs_of, others_of, raw_output
from .fingerprint import hooks_note, weights_fingerprint
from .identify import (
    family_of,
    flow_shift_of,
    model_name_of,
    noise_levels_of,
    prediction_of,
)
from .latents import encode_pixels
from .layers import text_encoder_layers, trainable_layers
from .session import TrainingSession, network_of, text_encoders_of, training_session


class ComfyHost:
    """Implements ``trustopt.host.Host`` over objects that ComfyUI's loaders made.

    The MODEL is never changed: a session works on a clone of its patcher and undoes everything.
    What the user put on the MODEL (LoRAs, sampling settings, patches) is in force in training.

    Args:
        model: MODEL, a ModelPatcher over SDXL or FLUX.1.
        clip: CLIP with the family's text encoders.
        vae: VAE of the family.
        reserve_memory: Bytes of the device ComfyUI keeps free of weights, for activations,
            gradients and optimizer state.

    Raises:
        ValueError: If the model is of no known family or kind, or CLIP or VAE is missing.
    """

    def __init__(self, model: Any, clip: Any, vae: Any, *, reserve_memory: int = 0) -> None:
        for name, given in (("MODEL", model), ("CLIP", clip), ("VAE", vae)):
            if given is None:
                raise ValueError(
                    f"{name} is missing: connect a {name} loader (this checkpoint may hold none)"
                )
        sampling = model.get_model_object("model_sampling")
        self.family: Family = family_of(model)
        self.prediction: Prediction = prediction_of(sampling)
        self.sigmas = noise_levels_of(sampling, self.prediction)
        self.flow_shift = flow_shift_of(sampling, self.prediction)
        self.model_name = model_name_of(model)
        self.latent_channels: int = model.model.latent_format.latent_channels
        self.pixels_per_latent = 8
        self.pixel_multiple = PIXEL_MULTIPLES[self.family]
        self.device: torch.device = model.load_device
        self.dtype = compute_dtype(model)
        self.reserve_memory = reserve_memory
        self._model, self._clip, self._vae = model, clip, vae
        self._session: TrainingSession | None = None
        self._text_session: TrainingSession | None = None
        self._text_in_training: Any = None

    @cached_property
    def _identity(self) -> Mapping[str, str]:
        model, clip, vae = self._model, self._clip, self._vae
        return {
            "name": self.model_name,
            "family": self.family,
            "prediction": self.prediction,
            "network": weights_fingerprint(model, sorted(model.injections)),
            "vae": weights_fingerprint(vae.patcher, vae.vae_dtype),
            "text_encoders": weights_fingerprint(
                clip.patcher,
                clip.layer_idx,
                clip.tokenizer_options,
                hooks_note(clip.patcher),
                self.dtype,
            ),
        }

    def identity(self) -> Mapping[str, str]:
        """Return the model's name and family, and hashes of the network and of both encoders."""
        return self._identity

    def layers(self) -> Mapping[str, LayerShape]:
        """Return every layer of the network, and of SDXL's text encoders, by canonical name."""
        layers = trainable_layers(self._model.model.diffusion_model)
        if self.family == "sdxl":
            layers |= text_encoder_layers(getattr(self._clip, "cond_stage_model", None))
        return layers

    def encode_images(self, pixels: Tensor) -> LatentDistribution:
        """Encode pictures; see ``latents.encode_pixels``."""
        return encode_pixels(self._vae, self._model, pixels)

    def encode_prompts(self, captions: Sequence[str]) -> list[Prompt]:
        """Encode captions; in a session that trains the text encoders, with gradients.

        See ``conditioning.encode_captions``. Contexts come in the dtype the network will round
        them to, so that a cache of FLUX's takes half the space.

        Raises:
            ValueError: If the CLIP is not one this MODEL takes.
        """
        if self._text_session is not None:
            with self._text_session.forward_pass():
                return encode_in_training(self._text_in_training, captions)
        prompts = encode_captions(self._clip, captions)
        if prompts:
            check_prompt(prompts[0], self._model, self.family)
        return [{**prompt, "context": prompt["context"].to(self.dtype)} for prompt in prompts]

    def memory(self) -> HostMemory:
        """Return what ComfyUI counts: the model, and what is free once all others are unloaded."""
        on_cpu = comfy.model_management.is_device_cpu(self.device)
        return HostMemory(
            weights=self._model.model_size(),
            # In main memory they stay where they are, trained or not.
            text_encoders=0 if on_cpu else self._clip.patcher.model_size(),
            available=device_memory(self._model),
            can_offload=not on_cpu,
        )

    @contextmanager
    def session(
        self, adapters: Mapping[str, nn.Module], *, checkpointing: bool, reserve: int = 0
    ) -> Iterator[None]:
        """Insert adapters for the time of a ``with`` block; see ``session.training_session``.

        Adapters are on ``self.device`` inside: build or load the optimizer's state there, too.
        ComfyUI streams the weights for which ``reserve`` leaves no room.

        Raises:
            RuntimeError: If a session is open already.
        """
        if self._session is not None:
            raise RuntimeError("this host already has a session open: leave it first")
        text = {name: adapter for name, adapter in adapters.items() if name.startswith("te")}
        network = {name: adapter for name, adapter in adapters.items() if name not in text}
        reserve = max(reserve, self.reserve_memory)
        options = {"checkpointing": checkpointing, "reserve_memory": reserve}
        with ExitStack() as stack:
            stack.callback(self._forget_sessions)
            trainee = network_of(self._model, self.family)
            self._session = stack.enter_context(training_session(trainee, network, **options))
            if text:
                clip = self._text_in_training = self._clip.clone()
                opened = training_session(text_encoders_of(clip), text, **options)
                self._text_session = stack.enter_context(opened)
            yield

    def _forget_sessions(self) -> None:
        self._session = self._text_session = self._text_in_training = None

    def denoise(self, noised: Tensor, sigma: Tensor, conditioning: Conditioning) -> Tensor:
        """Run the network once on a batch, inside a session; see ``denoise.raw_output``."""
        return self.prepare(noised, sigma, conditioning)()

    def prepare(self, noised: Tensor, sigma: Tensor, conditioning: Conditioning) -> PreparedForward:
        """Bring what the network takes to the device; see ``denoise.inputs_of``."""
        session = self._open_session()
        # Between two micro-batches of one step, too: accumulating many takes minutes.
        comfy.model_management.throw_exception_if_processing_interrupted()
        with session.forward_pass() as network:
            inputs, groups = inputs_of(network, noised, sigma, conditioning, self.device)

        def run(given: Mapping[str, Tensor]) -> Tensor:
            with session.forward_pass() as network:
                return raw_output(session.patcher, network, given, groups)

        return PreparedForward(inputs=inputs, run=run, others=others_of(groups))

    def weights_in_place(self) -> Hashable | None:
        """Return where the network's weights are; see ``in_place.WeightsInPlace``."""
        return self._open_session().weights_in_place()

    @contextmanager
    def sampling(self) -> Iterator[Any]:
        """Lend the MODEL with the half-trained adapters to ComfyUI's samplers, in a session.

        Training goes on afterwards bit for bit as if nothing had been sampled. The patcher must
        not be kept or output: it trains. To sample without the adapters, use the own MODEL.
        """
        with self._open_session().sampling() as patcher:
            yield patcher

    @property
    def learns_text(self) -> bool:
        """Whether a session is open that trains the text encoders."""
        return self._text_session is not None

    @property
    def sampling_clip(self) -> Any:
        """The CLIP that reads sample prompts: the one in training, if it is trained.

        Like ``sampling``'s patcher it must not be kept.
        """
        return self._text_in_training if self.learns_text else self._clip

    @property
    def vae(self) -> Any:
        """The VAE that was connected; nothing trains it."""
        return self._vae

    def checkpointing_error(self, noised: Tensor, sigma: Tensor, batch: Conditioning) -> float:
        """Compare gradients with and without checkpointing on one batch, inside a session.

        Checkpointing turns off autograd's own test for tensors changed in place, so another
        pack's patch could make gradients wrong without an error.

        Returns:
            L2 norm of the difference over that of the plain gradient; about 0 is right.
        """
        session = self._open_session()
        before = session.checkpointing
        parameters = [
            p for a in session.adapters.values() for p in a.parameters() if p.requires_grad
        ]
        gradients = []
        try:
            for session.checkpointing in (False, True):
                loss = self.denoise(noised, sigma, batch).square().mean()
                found = torch.autograd.grad(loss, parameters, allow_unused=True)
                gradients.append(torch.cat([g.flatten() for g in found if g is not None]))
        finally:
            session.checkpointing = before
        plain, recomputed = gradients
        scale = plain.norm().clamp_min(torch.finfo(torch.float32).tiny)
        return float((recomputed - plain).norm() / scale)

    def _open_session(self) -> TrainingSession:
        if self._session is None:
            raise RuntimeError("no session is open: call this inside `with host.session(…)`")
        return self._session


def compute_dtype(model: Any) -> torch.dtype:
    """Return the dtype a MODEL computes in; its weights may be stored in another."""
    manual = model.get_model_object("manual_cast_dtype")
    return manual if manual is not None else model.model.get_dtype()


def device_memory(model: Any) -> int:
    """Return the bytes a MODEL and its training can have on its device, all others unloaded.

    On a CPU nothing can be: what is loaded is where it would be unloaded to.
    """
    device = model.load_device
    free = int(comfy.model_management.get_free_memory(device))
    if comfy.model_management.is_device_cpu(device):
        return free + model.model_size()
    loaded = comfy.model_management.current_loaded_models
    held = sum(other.model_loaded_memory() for other in loaded if other.device == device)
    return free + held - comfy.model_management.extra_reserved_memory()
