"""From image set to training set: everything that happens to the data once, before training."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ..config import DataConfig
from ..host import Host
from .batches import Batch, BatchStream, stack_masks
from .buckets import BucketPlan, plan_buckets
from .captions import caption_variants, with_trigger
from .latents import LatentCache
from .order import BatchOrder, Entry, Pick, PlannedBatch, check_batch_size
from .prompts import PromptCache
from .samples import FileNote, ImageSet, Sample

Progress = Callable[[str, int, int], None]
"""``(stage, done, total)``; may raise to stop, what is cached by then stays cached."""


@dataclass(frozen=True, kw_only=True)
class TrainingSet:
    """Pictures ready to train on; the encoders are no longer needed."""

    image_set: ImageSet
    """The pictures trained or validated on, in the order that indices of batches mean."""
    config: DataConfig
    plan: BucketPlan
    captions: tuple[tuple[str, ...], ...]
    """For each picture its caption, trigger word added, and the variants that stand for it."""
    validation: tuple[int, ...]
    """Pictures held out of training."""
    latent_keys: tuple[tuple[str, ...], ...]
    latents: LatentCache
    prompts: PromptCache | None
    """None if captions are encoded while training."""

    @property
    def samples(self) -> tuple[Sample, ...]:
        """The pictures, those held out included."""
        return self.image_set.samples

    @property
    def training(self) -> tuple[int, ...]:
        """Pictures trained on."""
        held_out = set(self.validation)
        return tuple(i for i in range(len(self.samples)) if i not in held_out)

    def batches(self, batch_size: int, repeats: int, generator: torch.Generator) -> BatchStream:
        """Return endless training batches.

        Args:
            batch_size: Pictures a batch.
            repeats: Times each picture is seen an epoch, on top of its own repeats.
            generator: CPU generator that decides everything; its state is part of the stream's.

        Raises:
            ValueError: If there are fewer pictures than ``batch_size``.
        """
        training = self.training
        entries = [
            Entry(
                tuple(view.bucket for view in self.plan.views[i]),
                self.samples[i].repeats,
                self.samples[i].is_regularisation,
            )
            for i in training
        ]
        order = BatchOrder(entries, batch_size, repeats=repeats, generator=generator)

        def assemble(planned: PlannedBatch) -> Batch:
            picks = [Pick(training[pick.sample], pick.view) for pick in planned.picks]
            return self._assemble(picks, torch.Generator().manual_seed(planned.seed))

        def measure(planned: PlannedBatch) -> torch.Size:
            first = planned.picks[0]  # a batch is of one bucket
            mean = self.latents.load(self.latent_keys[training[first.sample]][first.view]).mean
            return torch.Size([len(planned.picks), *mean.shape])

        return BatchStream(order, assemble, measure)

    def validation_batches(self, batch_size: int) -> Iterator[Batch]:
        """Yield the held-out pictures once, the same way every time.

        Latents are the posterior's mean, crops are central, captions unchanged; the last batch of
        a bucket may be smaller.
        """
        by_bucket: dict[object, list[Pick]] = {}
        for index in self.validation:
            by_bucket.setdefault(self.plan.views[index][0].bucket, []).append(Pick(index, 0))
        for picks in by_bucket.values():
            for start in range(0, len(picks), batch_size):
                yield self._assemble(picks[start : start + batch_size], None)

    def report(self, batch_size: int = 1) -> str:
        """Return what will be trained on: pictures, captions and buckets, for people."""
        parts = [self.image_set.report(), self.plan.report(batch_size)]
        if self.validation:
            parts.append(f"{len(self.validation)} images are held out for validation")
        elif self.config.validation_fraction > 0.0:
            parts.append("no image is held out for validation: that takes two different ones")
        return "\n".join(parts)

    def _assemble(self, picks: Sequence[Pick], generator: torch.Generator | None) -> Batch:
        """Build a batch; without a generator nothing in it is random."""
        cached = [self.latents.load(self.latent_keys[i][view]) for i, view in picks]
        latents = torch.stack([c.sample(generator) if generator else c.mean for c in cached])
        captions = [self._caption(i, generator) for i, _ in picks]
        samples = [self.samples[i] for i, _ in picks]
        weight = self.config.regularisation_weight
        return Batch(
            latents=latents,
            prompts=[self.prompts.load(c) for c in captions] if self.prompts else [],
            captions=captions,
            geometry=[self.plan.views[i][view].geometry for i, view in picks],
            masks=stack_masks([c.mask for c in cached], latents),
            loss_weights=torch.tensor([weight if s.is_regularisation else 1.0 for s in samples]),
            indices=[i for i, _ in picks],
            is_regularisation=samples[0].is_regularisation,
        )

    def _caption(self, index: int, generator: torch.Generator | None) -> str:
        variants = self.captions[index]
        if generator is None:
            return variants[0]
        # Both draws are always made, so that a setting of one does not shift the other.
        drop = torch.rand((), generator=generator).item()
        choice = torch.randint(len(variants), (), generator=generator).item()
        return "" if drop < self.config.caption_dropout else variants[int(choice)]


def check_image_set(
    image_set: ImageSet, config: DataConfig, *, batch_size: int, multiple: int, seed: int
) -> None:
    """Refuse what ``prepare`` or ``TrainingSet.batches`` would refuse, before any encoding.

    Args:
        image_set: The pictures.
        config: How to cut them.
        batch_size: Pictures a batch.
        multiple: ``Host.pixel_multiple`` of the model.
        seed: Of the job.

    Raises:
        ValueError: If the set is empty or smaller than a batch, or a resolution too small.
    """
    _check_not_empty(image_set)
    held_out = len(hold_out(image_set.samples, config.validation_fraction, seed))
    training = sum(not sample.is_regularisation for sample in image_set.samples)
    check_batch_size(batch_size, training - held_out, held_out)
    plan_image_set(image_set, config, multiple)


def prepare(
    image_set: ImageSet,
    config: DataConfig,
    host: Host,
    *,
    cache_dir: Path | None,
    seed: int,
    progress: Progress,
    encode_captions: bool = True,
) -> TrainingSet:
    """Plan buckets, encode pictures and captions, hold out validation pictures.

    Args:
        image_set: Pictures and captions.
        config: How to cut and caption them.
        host: Encodes; not kept.
        cache_dir: Where latents and prompts are kept between runs; None keeps them in memory.
        seed: Decides which pictures are held out.
        progress: Told after each picture and caption.
        encode_captions: False leaves captions to a loop that trains the text encoders.

    Raises:
        ValueError: If the set is empty, or no picture of it can be decoded.
    """
    _check_not_empty(image_set)
    latents, prompt_cache = open_caches(host, cache_dir)
    plan = plan_image_set(image_set, config, host.pixel_multiple)
    image_set, keys = _encode_pictures(image_set, plan, latents, host, progress)
    plan = plan_image_set(image_set, config, host.pixel_multiple)
    captions = captions_of(image_set, config)
    if encode_captions:
        cache_prompts(texts_of(captions, config), prompt_cache, host, progress)
    return TrainingSet(
        image_set=image_set,
        config=config,
        plan=plan,
        captions=captions,
        validation=hold_out(image_set.samples, config.validation_fraction, seed),
        latent_keys=keys,
        latents=latents,
        prompts=prompt_cache if encode_captions else None,
    )


def plan_image_set(image_set: ImageSet, config: DataConfig, multiple: int) -> BucketPlan:
    """Return the bucket plan of an image set, without reading any picture.

    Args:
        image_set: The pictures.
        config: How to cut them.
        multiple: ``Host.pixel_multiple`` of the model.

    Raises:
        ValueError: If a resolution is below what the model takes.
    """
    names = [sample.name for sample in image_set.samples]
    sizes = [(sample.width, sample.height) for sample in image_set.samples]
    return plan_buckets(names, sizes, config, multiple)


def hold_out(samples: Sequence[Sample], fraction: float, seed: int) -> tuple[int, ...]:
    """Choose validation pictures: by content, so that copies of one never fall on both sides.

    Which ones depends on each picture's content and the seed alone; at least one is held out and
    at least one is left.
    """
    contents = {s.digest for s in samples if not s.is_regularisation} if fraction > 0.0 else set()
    if len(contents) < 2:
        return ()
    count = min(len(contents) - 1, max(1, round(fraction * len(contents))))
    ranked = sorted(contents, key=lambda d: hashlib.sha256(f"{seed} {d}".encode()).digest())
    chosen = set(ranked[:count])
    return tuple(i for i, s in enumerate(samples) if not s.is_regularisation and s.digest in chosen)


def _encode_pictures(
    image_set: ImageSet, plan: BucketPlan, latents: LatentCache, host: Host, progress: Progress
) -> tuple[ImageSet, tuple[tuple[str, ...], ...]]:
    """Cache all latents; pictures that fail to decode leave the set with their reason."""
    kept, keys, skipped = [], [], list(image_set.skipped)
    total = len(image_set.samples)
    outcomes = latents.prepare(host.encode_images, image_set.samples, plan.views)
    with closing(outcomes):  # so that an interrupt ends the decoding threads, too
        for done, (sample, outcome) in enumerate(zip(image_set.samples, outcomes, strict=True), 1):
            if outcome.failure:
                skipped.append(FileNote(sample.name, outcome.failure))
            else:
                kept.append(sample)
                keys.append(outcome.keys)
            progress("encoding images", done, total)
    remaining = replace(image_set, samples=tuple(kept), skipped=tuple(skipped))
    _check_not_empty(remaining)
    return remaining, tuple(keys)


def _check_not_empty(image_set: ImageSet) -> None:
    if all(sample.is_regularisation for sample in image_set.samples):
        reasons = "".join(f"\n  {note.file}: {note.text}" for note in image_set.skipped)
        raise ValueError(
            f"{image_set.name} holds no image to train on: add images that can be opened"
            + (f"\nskipped:{reasons}" if reasons else "")
        )


def open_caches(host: Host, folder: Path | None) -> tuple[LatentCache, PromptCache]:
    """Return the caches of a host's latents and prompts; without a folder they are in memory."""
    identity = host.identity()
    return (
        LatentCache(_part(identity, "vae"), folder / "latents" if folder else None),
        PromptCache(_part(identity, "text_encoders"), folder / "prompts" if folder else None),
    )


def captions_of(image_set: ImageSet, config: DataConfig) -> tuple[tuple[str, ...], ...]:
    """Return for each picture its caption, trigger word added, and the variants of it."""
    return tuple(_variants(sample, config, image_set.trigger_word) for sample in image_set.samples)


def texts_of(captions: Sequence[Sequence[str]], config: DataConfig) -> list[str]:
    """Return every text that training may need encoded, once."""
    texts = dict.fromkeys(text for variants in captions for text in variants)
    if config.caption_dropout > 0.0:
        texts[""] = None
    return list(texts)


def cache_prompts(
    texts: Sequence[str], prompts: PromptCache, host: Host, progress: Progress
) -> None:
    """Encode the texts that are not cached."""
    for done, text in enumerate(texts, 1):
        prompts.prepare(host.encode_prompts, text)
        progress("encoding captions", done, len(texts))


def _variants(sample: Sample, config: DataConfig, trigger_word: str) -> tuple[str, ...]:
    if sample.is_regularisation:
        trigger_word = ""  # what must not change must not hear the new word
    return caption_variants(with_trigger(sample.caption, trigger_word), config, trigger_word)


def _part(identity: Mapping[str, str], name: str) -> Mapping[str, str]:
    return {name: identity[name]} if name in identity else identity
