from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from trustopt.data.buckets import place
from trustopt.data.latents import CachedLatent, LatentCache
from trustopt.data.samples import Sample, image_set_from_arrays

SIZE = (64, 48)


@pytest.fixture
def sample(tmp_path, draw):
    path = draw(tmp_path / "a.png", SIZE)
    return Sample(name="a", source=path, caption="", width=SIZE[0], height=SIZE[1])


def cache_of(host, folder=None):
    return LatentCache(host.identity(), folder)


def prepare(cache, host, sample, *placements):
    [outcome] = cache.prepare(host.encode_images, [sample], [placements or [place(SIZE, SIZE)]])
    return outcome


def test_keeps_what_the_encoder_gives(host, sample):
    cache = cache_of(host)

    outcome = prepare(cache, host, sample)
    latent = cache.load(outcome.keys[0])

    assert host.encoded_shapes == [(1, 3, 48, 64)]
    assert latent.mean.shape == (3, 6, 8)
    assert latent.mean.dtype == torch.float32
    assert torch.equal(latent.std, torch.full((3, 6, 8), 0.125))
    assert latent.mask is None
    pixels = torch.from_numpy(np.asarray(Image.open(sample.source)).copy()).permute(2, 0, 1) / 255.0
    torch.testing.assert_close(latent.mean, torch.nn.functional.avg_pool2d(pixels, 8))


def test_a_sample_is_mean_plus_std_times_noise():
    latent = CachedLatent(torch.full((4, 32, 32), 2.0), torch.full((4, 32, 32), 0.5), None)

    drawn = latent.sample(torch.Generator().manual_seed(0))

    eps = torch.randn((4, 32, 32), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(drawn, 2.0 + 0.5 * eps)


@pytest.mark.parametrize("on_disk", [True, False])
def test_nothing_is_encoded_twice(host, sample, tmp_path, on_disk):
    folder = tmp_path / "cache" if on_disk else None
    cache = cache_of(host, folder)
    first = prepare(cache, host, sample)

    renamed = replace(sample, name="b", caption="new")
    assert prepare(cache, host, renamed) == first
    if on_disk:
        assert prepare(cache_of(host, folder), host, sample) == first
    assert len(host.encoded_shapes) == 1


def test_content_placement_mask_and_vae_each_make_another_latent(
    host, other_host, sample, tmp_path, draw
):
    cache = cache_of(host)
    straight = place(SIZE, SIZE)
    keys = {
        *prepare(cache, host, sample, straight, place(SIZE, SIZE, flipped=True)).keys,
        *prepare(
            cache, host, sample, place(SIZE, (48, 48)), place(SIZE, (48, 48), position=0)
        ).keys,
        *prepare(cache, host, replace(sample, source=draw(tmp_path / "b.png", SIZE, 1))).keys,
        *prepare(cache, host, replace(sample, mask=draw(tmp_path / "m.png", SIZE, 2, "L"))).keys,
        *prepare(cache, host, replace(sample, mask="alpha")).keys,
        *prepare(cache_of(other_host), other_host, sample).keys,
    }

    assert len(keys) == 8


def test_masks_are_averaged_over_each_latent_pixel(host):
    mask = np.zeros((48, 64), np.uint8)
    mask[:, :12] = 255
    [sample] = image_set_from_arrays([np.zeros((48, 64, 3), np.uint8)], masks=[mask]).samples
    cache = cache_of(host)

    latent = cache.load(prepare(cache, host, sample).keys[0])

    assert latent.mask.shape == (1, 6, 8)
    assert latent.mask[0, 0].tolist() == [1.0, 0.5, 0, 0, 0, 0, 0, 0]


def test_a_damaged_cache_file_is_made_anew(host, sample, tmp_path):
    [key] = prepare(cache_of(host, tmp_path / "cache"), host, sample).keys
    path = tmp_path / "cache" / f"{key}.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:100])

    prepare(cache_of(host, tmp_path / "cache"), host, sample)

    assert path.read_bytes() == whole
    assert len(host.encoded_shapes) == 2


def test_bad_and_vanished_pictures_are_named_and_the_others_encoded(host, tmp_path, draw):
    samples = []
    for index in range(12):
        path = draw(tmp_path / f"{index}.png", SIZE, index)
        samples.append(
            Sample(name=str(index), source=path, caption="", width=SIZE[0], height=SIZE[1])
        )
    samples[3].source.write_bytes(samples[3].source.read_bytes()[:60])
    samples[7].source.unlink()

    views = [[place(SIZE, SIZE)]] * 12
    outcomes = list(cache_of(host).prepare(host.encode_images, samples, views))

    assert [bool(o.keys) for o in outcomes] == [i not in (3, 7) for i in range(12)]
    assert outcomes[3].failure.startswith("damaged or cut off")
    assert outcomes[7].failure.startswith("cannot be read any more")
    assert len(host.encoded_shapes) == 10


def test_errors_of_the_encoder_pass_through(host, sample):
    def fail(pixels):
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        list(cache_of(host).prepare(fail, [sample], [[place(SIZE, SIZE)]]))


def test_a_vae_that_overflows_is_named_and_nothing_is_kept(host, sample, tmp_path):
    def overflow(pixels):
        latents = host.encode_images(pixels)
        return replace(latents, mean=latents.mean * float("inf"))

    cache = cache_of(host, tmp_path / "cache")
    with pytest.raises(ValueError, match=r"^the VAE gives latents that are not finite for a: "):
        list(cache.prepare(overflow, [sample], [[place(SIZE, SIZE)]]))
    assert not list((tmp_path / "cache").glob("*"))
