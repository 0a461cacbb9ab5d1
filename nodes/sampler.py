"""Sample pictures of a training: what a choice means for a model, and how they are made."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..trustopt.data import ImageSet
from ..trustopt.data.captions import PLACEHOLDER, fill_trigger, with_trigger
from ..trustopt.host import Prediction
from ..trustopt.train.hooks import Hooks
from ..trustopt.train.loop import Run
from ..trustopt.train.sample_folder import SampleFolder
from .bridge.host import ComfyHost
from .bridge.sampling import (
    Condition,
    SamplerSettings,
    decode_latents,
    draw_latents,
    encode_prompts,
)
from .live import LiveView
from .samples import SampleChoice

NUM_CAPTIONS = 2
"""Captions that are sampled where no prompts are written."""

USUAL: dict[Prediction, dict[str, Any]] = {
    "eps": {"cfg": 6.0, "sampler_name": "dpmpp_2m", "scheduler": "karras"},
    # Of zero-terminal SNR's levels, which reach thousands, karras spends two thirds of its steps
    # above the level where other models begin.
    "v": {"cfg": 6.0, "sampler_name": "euler", "scheduler": "normal"},
    "flow": {"cfg": 1.0, "sampler_name": "euler", "scheduler": "simple"},
}
"""What auto means, by what the network predicts."""


@dataclass(frozen=True, kw_only=True)
class SamplePlan:
    """Everything a run's sample pictures depend on besides its weights."""

    prompts: tuple[str, ...]
    negative: str
    seed: int
    guidance: float
    """FLUX's."""
    before_training: bool
    settings: SamplerSettings


def plan_samples(
    choice: SampleChoice, host: ComfyHost, images: ImageSet, resolution: int
) -> SamplePlan:
    """Return what a choice means for a model and its pictures.

    Args:
        choice: Of the samples node.
        host: The model.
        images: Whose trigger word and captions count.
        resolution: The training's, pixels: the side of the pictures where none is set.

    Raises:
        ValueError: If the model has no pictures of that size, or a prompt is empty.
    """
    multiple = host.pixel_multiple
    square = resolution // multiple * multiple
    size = {"width": choice.width or square, "height": choice.height or square}
    for name, side in size.items():
        if side % multiple:
            below = max(multiple, side // multiple * multiple)
            raise ValueError(
                f"Training Samples has a {name} of {side}, {host.family.upper()} takes multiples "
                f"of {multiple}: set {below} or {below + multiple}, or -1 for the training's "
                "resolution"
            )
    named = {name: getattr(choice, name) for name in ("cfg", "sampler_name", "scheduler")}
    set_by_user = {name: value for name, value in named.items() if value is not None}
    return SamplePlan(
        prompts=prompts_of(choice.prompts, images),
        negative=choice.negative,
        seed=choice.seed,
        guidance=choice.guidance,
        before_training=choice.before_training,
        settings=SamplerSettings(
            **size, steps=choice.steps, **{**USUAL[host.prediction], **set_by_user}
        ),
    )


def prompts_of(written: tuple[str, ...], images: ImageSet) -> tuple[str, ...]:
    """Return the prompts with their trigger word, all different; captions where none is written.

    Raises:
        ValueError: If a prompt is the trigger word alone, and there is none.
    """
    word = images.trigger_word
    if not written:
        trained = [s.caption for s in images.samples if not s.is_regularisation]
        captions = list(dict.fromkeys(with_trigger(caption, word) for caption in trained)) or [""]
        every = max(1, len(captions) // NUM_CAPTIONS)
        return tuple(captions[::every][:NUM_CAPTIONS])
    prompts = tuple(dict.fromkeys(fill_trigger(prompt, word) for prompt in written))
    if "" in prompts:
        raise ValueError(
            f"a prompt of Training Samples is {PLACEHOLDER} alone, and {images.name} has no "
            "trigger word: set trigger_word on Load Image Set, or write the prompt out"
        )
    return prompts


class RunSamples:
    """Makes the sample pictures of one run.

    Args:
        plan: What is asked for.
        host: The model, in a session when pictures are made.
        view: Whom to tell.
        header: Texts for the files' headers, as ComfyUI writes them; None writes no header.
    """

    def __init__(
        self, plan: SamplePlan, host: ComfyHost, view: LiveView, header: Mapping[str, str] | None
    ) -> None:
        self.plan, self.host, self.view, self.header = plan, host, view, header
        self.folder: SampleFolder | None = None
        self._positives: list[Condition] = []
        self._negative: Condition = []

    def hooks(self, hooks: Hooks) -> Hooks:
        """Return a run's hooks with those that make the pictures."""

        def on_start(run: Run, folder: Path) -> None:
            self.folder = SampleFolder(folder / "samples", run.step, theme="dark")
            hooks.on_start(run, folder)

        return replace(
            hooks,
            on_encoded=self.encode,
            on_start=on_start,
            on_sample=self.make,
            on_sample_failed=self.view.on_sample_failed,
        )

    def encode(self) -> None:
        """Encode prompts and negative; the text encoders may leave the device afterwards."""
        plan = self.plan
        self._positives, self._negative = encode_prompts(
            self.host, plan.prompts, plan.negative, plan.guidance
        )

    def make(self, run: Run) -> None:
        """Make the pictures of the weights as they are."""
        plan = self.plan
        if self.folder is None or (run.step == 0 and not plan.before_training):
            return
        if self.host.learns_text:
            self.encode()
        latents = []
        for index, positive in enumerate(self._positives):
            self.view.on_sampling(run.step, index, len(plan.prompts))
            seed = plan.seed + index
            latents.append(draw_latents(self.host, positive, self._negative, seed, plan.settings))
        # All decoded together: the network and the VAE may not fit beside each other.
        pictures = decode_latents(self.host, latents)
        headers = [self._header(run.step, index) for index in range(len(pictures))]
        listed = self.folder.add(run.step, plan.prompts, pictures, headers)
        self.view.on_samples(listed, pictures)

    def _header(self, step: int, index: int) -> dict[str, str]:
        """Return a picture's texts: the graph, and what this picture is."""
        if self.header is None:
            return {}
        own = {
            "step": step,
            "prompt": self.plan.prompts[index],
            "negative": self.plan.negative,
            "seed": self.plan.seed + index,
            "guidance": self.plan.guidance,
            **asdict(self.plan.settings),
        }
        return {**self.header, "trustopt_sample": json.dumps(own)}
