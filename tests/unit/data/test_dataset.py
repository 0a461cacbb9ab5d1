from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from trustopt.config import DataConfig
from trustopt.data import (
    check_image_set,
    image_set_from_arrays,
    plan_image_set,
    prepare,
    scan_folder,
)
from trustopt.host import Geometry, LatentDistribution

STATUS = Path("/proc/self/status")
CONFIG = DataConfig(resolution=64, bucket_step=16)


def pictures(count, size=(64, 64), offset=0):
    return [np.full((size[1], size[0], 3), 10 + offset + index, np.uint8) for index in range(count)]


def prepared(image_set, host, config=CONFIG, *, cache_dir=None, seed=0, **options):
    return prepare(
        image_set,
        config,
        host,
        cache_dir=cache_dir,
        seed=seed,
        progress=options.pop("progress", lambda stage, done, total: None),
        **options,
    )


def stream(training_set, batch_size=2, *, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return training_set.batches(batch_size, 1, generator)


def same(first, second):
    return (
        torch.equal(first.latents, second.latents)
        and first.captions == second.captions
        and first.indices == second.indices
        and first.geometry == second.geometry
    )


def test_a_folder_becomes_batches(host, tmp_path, draw):
    for seed in range(4):
        draw(tmp_path / f"{seed}.png", (128, 64), seed=seed)
        (tmp_path / f"{seed}.txt").write_text(f"number {seed}")

    training_set = prepared(scan_folder(tmp_path, trigger_word="sks"), host)
    batch = next(stream(training_set, 3))

    assert batch.latents.shape == (3, 3, 6, 10)  # 80x48 pixels
    assert batch.latents.dtype == torch.float32
    assert batch.captions == [f"sks, number {i}" for i in batch.indices]
    assert [p["context"][0, 0].item() for p in batch.prompts] == [13.0] * 3  # length of a caption
    assert batch.geometry == [Geometry(original=(128, 64), crop=(8, 0), target=(80, 48))] * 3
    assert batch.masks is None
    assert batch.loss_weights.tolist() == [1.0] * 3
    assert not batch.is_regularisation


def test_latents_are_drawn_anew_each_time_around_the_mean(host):
    training_set = prepared(image_set_from_arrays(pictures(1)), host)
    source = stream(training_set, 1)

    first, second = next(source).latents, next(source).latents

    assert not torch.equal(first, second)
    assert (first - 10 / 255).abs().mean() < 0.125  # mean |eps| is 0.8 of the deviation
    assert (first - 10 / 255).std() == pytest.approx(0.125, rel=0.2)


def test_a_warm_cache_needs_no_encoder(host, tmp_path):
    image_set = image_set_from_arrays(pictures(3), ["a, b, c", "", "a, b, c"])
    config = replace(CONFIG, shuffle_tags=True, caption_dropout=0.5, flip=True)
    first = prepared(image_set, host, config, cache_dir=tmp_path)
    images, captions = len(host.encoded_shapes), Counter(host.encoded_captions)

    second = prepared(image_set, host, config, cache_dir=tmp_path, seed=1)

    assert images == 6  # three pictures, each also mirrored
    assert set(captions.values()) == {1}  # nothing twice
    assert len(captions) <= 6 + 1  # the orders of three tags and the empty caption
    assert (len(host.encoded_shapes), Counter(host.encoded_captions)) == (images, captions)
    assert same(next(stream(first)), next(stream(second)))


def test_an_interrupt_keeps_what_is_cached(host, tmp_path):
    image_set = image_set_from_arrays(pictures(6), ["one", "two", "three", "four", "five", "six"])

    def stop_at(stage_to_stop, count):
        def progress(stage, done, total):
            if (stage, done) == (stage_to_stop, count):
                raise KeyboardInterrupt

        return progress

    with pytest.raises(KeyboardInterrupt):
        prepared(image_set, host, cache_dir=tmp_path, progress=stop_at("encoding images", 4))
    assert len(host.encoded_shapes) == 4
    with pytest.raises(KeyboardInterrupt):
        prepared(image_set, host, cache_dir=tmp_path, progress=stop_at("encoding captions", 2))
    prepared(image_set, host, cache_dir=tmp_path)

    assert len(host.encoded_shapes) == 6
    assert host.encoded_captions == ["one", "two", "three", "four", "five", "six"]


def test_progress_counts_to_the_total(host):
    seen = []

    prepared(image_set_from_arrays(pictures(2)), host, progress=lambda *step: seen.append(step))

    assert seen == [
        ("encoding images", 1, 2),
        ("encoding images", 2, 2),
        ("encoding captions", 1, 1),
    ]


@pytest.mark.parametrize("position", [0, 1, 4])
def test_resumes_bit_for_bit_in_the_middle_of_an_epoch(host, position):
    image_set = image_set_from_arrays(pictures(3) + pictures(4, (128, 64)), ["a, b, c, d"])
    config = replace(CONFIG, shuffle_tags=True, caption_dropout=0.3, flip=True)
    training_set = prepared(image_set, host, config)
    source = stream(training_set)
    for _ in range(position):
        next(source)
    state = source.state_dict()
    expected = [next(source) for _ in range(12)]

    resumed = stream(training_set, seed=5)
    resumed.load_state_dict(state)

    assert all(same(next(resumed), batch) for batch in expected)


def test_processes_share_the_pictures_without_loss_or_repeat(host):
    square, wide = pictures(5), pictures(3, (128, 64), offset=50)
    training_set = prepared(image_set_from_arrays([*square, *wide]), host)
    alone = stream(training_set)
    ranks = [stream(training_set) for _ in range(3)]

    for turn in range(30):
        expected = next(alone)
        for number, rank in enumerate(ranks):
            if turn % 3 == number:
                assert same(next(rank), expected)
            else:
                assert rank.pass_over() == expected.latents.shape


def test_caption_dropout_gives_the_empty_prompt_at_its_rate(host):
    training_set = prepared(
        image_set_from_arrays(pictures(1), ["a cat"]), host, replace(CONFIG, caption_dropout=0.25)
    )
    source = stream(training_set, 1)

    batches = [next(source) for _ in range(400)]

    dropped = [b for b in batches if b.captions == [""]]
    assert abs(len(dropped) - 100) < 35  # 4 standard deviations: sqrt(400 * .25 * .75) = 8.7
    assert {b.prompts[0]["context"][0, 0].item() for b in dropped} == {0.0}
    assert {b.prompts[0]["context"][0, 0].item() for b in batches} == {0.0, 5.0}


def test_all_variants_of_a_caption_are_used(host):
    config = replace(CONFIG, shuffle_tags=True, caption_variants=4)
    training_set = prepared(image_set_from_arrays(pictures(1), ["k, a, b, c, d, e"]), host, config)
    source = stream(training_set, 1)

    seen = {next(source).captions[0] for _ in range(60)}

    assert seen == set(training_set.captions[0])
    assert len(seen) == 4


def test_masks_of_a_mixed_batch_are_whole_where_there_is_none(host):
    mask = np.zeros((64, 64), np.uint8)
    image_set = image_set_from_arrays(pictures(2), masks=[mask, None])

    batch = next(stream(prepared(image_set, host)))

    masked = batch.indices.index(0)
    assert batch.masks.shape == (2, 1, 8, 8)
    assert batch.masks[masked].max() == 0.0
    assert batch.masks[1 - masked].min() == 1.0


def test_validation_is_held_out_by_content_and_seed(host):
    arrays = pictures(10)
    image_set = image_set_from_arrays([*arrays, arrays[0]], ["same"] * 10 + ["other"])
    config = replace(CONFIG, validation_fraction=0.3, flip=True)

    first, second, other = (prepared(image_set, host, config, seed=s) for s in (0, 0, 1))

    assert first.validation == second.validation != other.validation
    contents = {first.samples[i].digest for i in first.validation}
    assert len(contents) == 3
    assert contents.isdisjoint(first.samples[i].digest for i in first.training)
    assert sorted(first.validation + first.training) == list(range(11))
    source = stream(first)
    assert {i for _ in range(40) for i in next(source).indices} == set(first.training)


def test_validation_batches_are_the_same_every_time(host):
    image_set = image_set_from_arrays(pictures(5) + pictures(5, (128, 64)), ["a, b, c, d"])
    config = replace(
        CONFIG, validation_fraction=0.6, shuffle_tags=True, caption_dropout=0.9, flip=True
    )
    training_set = prepared(image_set, host, config)

    first, second = (list(training_set.validation_batches(4)) for _ in range(2))

    assert all(same(a, b) for a, b in zip(first, second, strict=True))
    assert sorted(i for b in first for i in b.indices) == sorted(training_set.validation)
    assert {c for b in first for c in b.captions} == {"a, b, c, d"}
    values = {b.latents[k].std().item() for b in first for k in range(len(b.indices))}
    assert max(values) < 1e-6  # plain pictures have plain means: nothing was drawn


def test_regularisation_pictures_have_their_weight_and_no_trigger(host):
    image_set = replace(image_set_from_arrays(pictures(2), ["a cat"]), trigger_word="sks")
    image_set = image_set.with_regularisation(
        image_set_from_arrays(pictures(2, offset=100), ["an animal"])
    )
    training_set = prepared(image_set, host, replace(CONFIG, regularisation_weight=0.5))
    source = stream(training_set)

    batches = [next(source) for _ in range(4)]

    kept = [b for b in batches if b.is_regularisation]
    assert len(kept) == 2
    assert {c for b in kept for c in b.captions} == {"an animal"}
    assert {c for b in batches if not b.is_regularisation for c in b.captions} == {"sks, a cat"}
    assert kept[0].loss_weights.tolist() == [0.5, 0.5]


def test_captions_can_be_left_to_a_loop_that_trains_the_encoders(host):
    training_set = prepared(
        image_set_from_arrays(pictures(2), ["a cat"]), host, encode_captions=False
    )

    batch = next(stream(training_set))

    assert batch.prompts == []
    assert batch.captions == ["a cat", "a cat"]
    assert not host.encoded_captions


def test_pictures_that_fail_to_decode_leave_with_their_reason(host, tmp_path, draw):
    for seed in range(3):
        draw(tmp_path / f"{seed}.png", (64, 64), seed=seed)
    image_set = scan_folder(tmp_path)
    (tmp_path / "1.png").write_bytes(b"gone bad")

    training_set = prepared(image_set, host)

    assert [s.name for s in training_set.samples] == ["0", "2"]
    assert training_set.plan.names == ("0", "2")
    assert "skipped 1: not a picture" in training_set.report()

    for path in tmp_path.iterdir():
        path.write_bytes(b"gone bad")
    with pytest.raises(ValueError, match="no image to train on: add images that can be opened"):
        prepared(scan_again(image_set), host)


def scan_again(image_set):
    """The same samples with nothing remembered of their files."""
    return replace(image_set, samples=tuple(replace(s) for s in image_set.samples))


def test_checks_come_before_any_work(host):
    image_set = image_set_from_arrays(pictures(4))
    config = replace(CONFIG, validation_fraction=0.5)

    check_image_set(image_set, config, batch_size=2, multiple=16, seed=0)
    with pytest.raises(
        ValueError, match=r"there are 2 \(2 more are held out.*lower batch_size to 2"
    ):
        check_image_set(image_set, config, batch_size=3, multiple=16, seed=0)
    with pytest.raises(ValueError, match="at least 128 pixels for this model, got 64"):
        check_image_set(image_set, config, batch_size=1, multiple=128, seed=0)
    with pytest.raises(ValueError, match="holds no image to train on"):
        prepared(replace(image_set, samples=()), host)
    assert not host.encoded_shapes


def test_the_plan_is_made_without_reading_a_picture(tmp_path, draw):
    path = draw(tmp_path / "a.png", (128, 64))
    image_set = scan_folder(tmp_path)
    path.unlink()

    assert plan_image_set(image_set, CONFIG, 16).buckets == {(80, 48): 1}


def test_report_names_pictures_buckets_and_validation(host):
    config = replace(CONFIG, validation_fraction=0.3)

    report = prepared(image_set_from_arrays(pictures(4), ["a cat"]), host, config).report()

    assert "images: 4 images" in report
    assert "   64x64      1.00       4" in report
    assert "1 images are held out for validation" in report
    alone = prepared(image_set_from_arrays(pictures(1)), host, config).report()
    assert "no image is held out for validation" in alone


@pytest.mark.skipif(not STATUS.exists(), reason="needs /proc")
def test_memory_does_not_grow_with_the_pictures(host, tmp_path):
    count = 64

    def encode_to_a_mebibyte(pixels):
        mean = torch.ones(1, 32, 64, 64)
        return LatentDistribution(mean=mean, std=mean)

    host.encode_images = encode_to_a_mebibyte
    training_set = prepared(image_set_from_arrays(pictures(count)), host, cache_dir=tmp_path)
    source = stream(training_set, 1)
    for _ in range(8):
        batch = next(source)
    assert batch.latents.numel() * 4 * 2 == 2**20

    before = resident_mib()
    for _ in range(count):
        next(source)

    assert resident_mib() - before < 0.05 * count


def resident_mib():
    line = next(x for x in STATUS.read_text().splitlines() if x.startswith("VmRSS"))
    return int(line.split()[1]) / 1024
