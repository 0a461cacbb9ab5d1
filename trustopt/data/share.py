"""The encoding dealt out to several processes, so that each picture and caption is encoded once."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from ..config import DataConfig
from ..host import Host
from .dataset import (
    Progress,
    cache_prompts,
    captions_of,
    open_caches,
    plan_image_set,
    texts_of,
)
from .samples import ImageSet


def fill_cache(
    image_set: ImageSet,
    config: DataConfig,
    host: Host,
    *,
    takes: Callable[[int], bool],
    cache_dir: Path,
    progress: Progress,
    encode_captions: bool = True,
) -> None:
    """Encode this process's share into the cache, where ``prepare`` finds it in all of them.

    What cannot be read is passed over here; ``prepare`` says so.

    Args:
        image_set: Pictures and captions, all of them.
        config: How to cut and caption them.
        host: Encodes.
        takes: Whether the picture, or the caption, of a number from 0 is this process's.
        cache_dir: The cache, which all processes share.
        progress: Told after each picture and caption.
        encode_captions: As in ``prepare``.

    Raises:
        ValueError: If the encoders give something that is not finite.
    """
    latents, prompts = open_caches(host, cache_dir)
    plan = plan_image_set(image_set, config, host.pixel_multiple)
    mine = [number for number in range(len(image_set.samples)) if takes(number)]
    samples = [image_set.samples[number] for number in mine]
    views = [plan.views[number] for number in mine]
    with closing(latents.prepare(host.encode_images, samples, views)) as outcomes:
        for done, _ in enumerate(outcomes, 1):
            progress("encoding images", done, len(mine))
    if encode_captions:
        texts = texts_of(captions_of(image_set, config), config)
        texts = [text for number, text in enumerate(texts) if takes(number)]
        cache_prompts(texts, prompts, host, progress)
