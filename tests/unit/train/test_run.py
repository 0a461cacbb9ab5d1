"""Mirrors trustopt/train/run.py: whole jobs on the toy host."""

import json
import math
import weakref
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from toy import DOWN, UP, ToyHost, images, job

from trustopt.config import AdapterConfig, DataConfig, OptimizerConfig
from trustopt.signals import load_signals
from trustopt.train import effect, keeper
from trustopt.train.backward import backward_of, conditioning_of
from trustopt.train.hooks import Hooks
from trustopt.train.loop import NonFiniteError, StopTraining
from trustopt.train.run import build_run, check, encode, run_job


def test_a_job_leaves_lora_signals_states_and_result(tmp_path) -> None:
    result = run_job(job(tmp_path))

    tensors = load_file(result.lora)
    assert result.lora == tmp_path / "loras" / "toy.safetensors"
    prefix = "lora_unet_" + UP.replace(".", "_")
    assert tensors[f"{prefix}.lora_down.weight"].shape == (2, 4)
    assert tensors[f"{prefix}.lora_up.weight"].abs().max() > 0
    assert tensors[f"{prefix}.alpha"].shape == ()
    signals = load_signals(result.folder.signals)
    assert signals.steps.tolist() == list(range(1, 13))
    assert all(math.isfinite(x) for x in signals.series("loss"))
    states = sorted(p.name for p in result.folder.state.iterdir())
    assert states == ["00000008", "00000012"]  # keep_last = 2
    assert (result.folder.state / states[-1] / "lora.safetensors").exists()
    written = json.loads((result.folder.path / "result.json").read_text())
    assert (written["status"], written["step"]) == ("finished", 12)


def test_training_learns(tmp_path) -> None:
    result = run_job(job(tmp_path, steps=300, lr=3e-2, save_every=0))
    losses = result.signals.series("loss")
    assert losses[-50:].mean() < 0.8 * losses[:50].mean()


def test_same_seed_same_file_and_global_randomness_untouched(tmp_path) -> None:
    before = torch.random.get_rng_state()
    first = run_job(job(tmp_path / "a")).lora.read_bytes()
    second = run_job(job(tmp_path / "b")).lora.read_bytes()
    other = run_job(job(tmp_path / "c", seed=1)).lora.read_bytes()

    assert first == second
    assert first != other
    assert torch.equal(before, torch.random.get_rng_state())


def test_two_runs_of_one_name_keep_both(tmp_path) -> None:
    first, second = run_job(job(tmp_path)), run_job(job(tmp_path))
    assert first.lora.exists()
    assert second.lora.name == "toy_2.safetensors"
    assert first.folder.path != second.folder.path


def test_base_model_is_untouched(tmp_path) -> None:
    host = ToyHost()
    before = {k: v.clone() for k, v in host.network.state_dict().items()}
    run_job(job(tmp_path, host=host))
    after = host.network.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[k], after[k]) for k in before)


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), KeyboardInterrupt()])
def test_an_interrupt_keeps_what_was_trained_and_resumes_bit_for_bit(tmp_path, error) -> None:
    straight = run_job(job(tmp_path / "straight", accumulation=2))
    host = ToyHost()
    host.break_at, host.error = 2 * 6 + 1, error  # in the middle of step 7

    with pytest.raises(type(error)):
        run_job(job(tmp_path / "broken", accumulation=2, host=host))
    partial = load_file(tmp_path / "broken" / "loras" / "toy.safetensors")
    assert all(torch.isfinite(t).all() for t in partial.values())

    resumed = run_job(job(tmp_path / "broken", accumulation=2, resume=True))
    assert resumed.lora == tmp_path / "broken" / "loras" / "toy.safetensors"
    assert resumed.lora.read_bytes() == straight.lora.read_bytes()
    one, two = load_signals(straight.folder.signals), load_signals(resumed.folder.signals)
    assert one.steps.tolist() == two.steps.tolist()
    assert one.series("loss").tolist() == two.series("loss").tolist()


@pytest.mark.parametrize("at", [0, 8, 12], ids=["before step 1", "between steps", "at the end"])
def test_an_interrupt_while_pictures_are_drawn_keeps_what_was_trained(tmp_path, at) -> None:
    def on_sample(run) -> None:
        if run.step == at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_job(job(tmp_path / "a", sample_every=4, hooks=Hooks(on_sample=on_sample)))
    assert (tmp_path / "a" / "loras" / "toy.safetensors").exists() == (at > 0)
    resumed = run_job(job(tmp_path / "a", sample_every=4, resume=True))
    straight = run_job(job(tmp_path / "b", sample_every=4))
    assert resumed.report.model_hash == straight.report.model_hash


def test_an_interrupt_while_the_file_is_tried_keeps_it(tmp_path, monkeypatch) -> None:
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(effect, "effect_of_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_job(job(tmp_path))
    assert load_file(tmp_path / "loras" / "toy.safetensors")
    written = json.loads((tmp_path / "runs" / "toy" / "result.json").read_text())
    assert (written["status"], written["step"]) == ("interrupted", 12)


def test_saving_after_an_error_never_hides_it(tmp_path, monkeypatch, caplog) -> None:
    def out_of_memory(*_, **__):
        raise torch.OutOfMemoryError("and none to save with")

    monkeypatch.setattr(keeper, "save_state", out_of_memory)
    host = ToyHost()
    host.break_at, host.error = 3, torch.OutOfMemoryError("in a step")
    with pytest.raises(torch.OutOfMemoryError, match="in a step"):
        run_job(job(tmp_path, host=host))
    assert "the steps since step 0 are lost to resume: and none to save with" in caplog.text
    assert load_file(tmp_path / "loras" / "toy.safetensors")


def test_out_of_memory_lets_go_of_the_step_before_it_saves(tmp_path, monkeypatch) -> None:
    kept, alive = [], []

    class Host(ToyHost):
        def run(self, inputs):
            output = super().run(inputs)
            if len(self.calls) == 6:
                kept.append(weakref.ref(output))
                raise torch.OutOfMemoryError("in a step")
            return output

    real = keeper.save_state
    monkeypatch.setattr(
        keeper, "save_state", lambda *a, **k: (alive.append(kept[0]()), real(*a, **k))[1]
    )
    with pytest.raises(torch.OutOfMemoryError):
        run_job(job(tmp_path, host=Host(), save_every=0))
    assert alive == [None]


def test_stop_keeps_the_lora_and_ends_normally(tmp_path) -> None:
    def stop_at_five(report, recorder) -> None:
        if report.step == 5:
            raise StopTraining

    result = run_job(job(tmp_path, hooks=Hooks(on_step=stop_at_five)))
    assert (result.status, result.steps) == ("stopped", 5)
    assert result.lora.exists()
    resumed = run_job(job(tmp_path, resume=True))
    assert resumed.lora.read_bytes() == run_job(job(tmp_path / "straight")).lora.read_bytes()


def test_non_finite_steps_are_skipped_and_counted(tmp_path) -> None:
    host = ToyHost()
    host.overflow = {3, 4}
    result = run_job(job(tmp_path, host=host))
    assert result.skipped == 2
    assert all(torch.isfinite(t).all() for t in load_file(result.lora).values())


def test_persistent_non_finite_loss_stops_with_the_last_good_weights(tmp_path) -> None:
    host = ToyHost()
    host.overflow = set(range(6, 100))
    with pytest.raises(NonFiniteError, match="3 steps in a row"):
        run_job(job(tmp_path, host=host, max_bad_steps=3, steps=50))
    kept = load_file(tmp_path / "loras" / "toy.safetensors")
    assert all(torch.isfinite(t).all() for t in kept.values())


def test_accumulation_is_so_many_passes_for_one_step(tmp_path) -> None:
    host = ToyHost()
    result = run_job(job(tmp_path, host=host, accumulation=3, steps=4))
    assert len(host.calls) == 4 * 3 + 3  # the saved file is tried with three more passes
    assert result.signals.steps.tolist() == [1, 2, 3, 4]


def test_the_gradient_of_accumulated_passes_is_that_of_their_mean(tmp_path) -> None:
    """At a learning rate of zero effect, the same batch thrice has the gradient of one."""
    one_image = {"num_images": 1, "steps": 1, "max_grad_norm": 0.0, "save_every": 0}
    norms = [
        run_job(job(tmp_path / str(n), accumulation=n, **one_image)).signals.series("grad_norm")[0]
        for n in (1, 64)
    ]
    # 64 draws of noise average towards one gradient: a sum instead of a mean would be 64 times.
    assert norms[1] < 2.0 * norms[0]


def test_validation_does_not_change_the_weights(tmp_path) -> None:
    held_out = DataConfig(resolution=32, validation_fraction=0.2)
    with_it = run_job(job(tmp_path / "a", data=held_out, validate_every=2))
    without = run_job(job(tmp_path / "b", data=held_out, validate_every=0))
    assert with_it.report.model_hash == without.report.model_hash
    assert math.isfinite(with_it.signals.series("val/loss")[-1])


@pytest.mark.parametrize("name", ["autotrustgo", "emonavi"])
def test_trust_driven_optimizers_resume_bit_for_bit(tmp_path, name) -> None:
    optimizer = OptimizerConfig(name=name)
    straight = run_job(job(tmp_path / "a", optimizer=optimizer, ema_decay=0.9))
    host = ToyHost()
    host.break_at, host.error = 7, RuntimeError("stop here")
    with pytest.raises(RuntimeError, match="stop here"):
        run_job(job(tmp_path / "b", optimizer=optimizer, ema_decay=0.9, host=host))
    resumed = run_job(job(tmp_path / "b", optimizer=optimizer, ema_decay=0.9, resume=True))
    assert resumed.lora.read_bytes() == straight.lora.read_bytes()


def test_bad_input_is_refused_before_any_work(tmp_path) -> None:
    host = ToyHost()
    with pytest.raises(ValueError, match="batch_size"):
        run_job(job(tmp_path, host=host, batch_size=9))
    with pytest.raises(ValueError, match="nosuch"):
        run_job(job(tmp_path, host=host, optimizer=OptimizerConfig(name="nosuch")))
    assert host.images_encoded == 0
    assert not list((tmp_path / "loras").glob("*"))
    assert not list((tmp_path / "runs").glob("*"))


def test_unwritable_output_is_refused_with_its_name(tmp_path) -> None:
    (tmp_path / "loras").write_text("a file where the folder should be")
    with pytest.raises(ValueError, match="loras cannot be written"):
        run_job(job(tmp_path))


def test_regularisation_pictures_are_trained_to_what_the_base_model_says(tmp_path) -> None:
    made = job(tmp_path, max_grad_norm=0.0)
    made.images = made.images.with_regularisation(images(3))
    adapters = check(made)
    run = build_run(made, encode(made, adapters), adapters)
    batch = next(b for b in run.batches if b.is_regularisation)
    draw = run.objective.draw(batch.latents, run.generator)

    def losses() -> torch.Tensor:
        return backward_of(run, batch, draw, batch.loss_weights, 1.0)()[1]

    with made.host.session(adapters.layers, checkpointing=False):
        # A LoRA that changes nothing is already right, whatever the picture.
        assert not losses().any()
        with torch.no_grad():
            for parameter in adapters.parameters():
                parameter.add_(0.3)
        loss = losses()
        with torch.no_grad():
            output = made.host.denoise(draw.noised, draw.sigma, conditioning_of(run, batch))
            with adapters.disabled():
                base = made.host.denoise(draw.noised, draw.sigma, conditioning_of(run, batch))
    torch.testing.assert_close(loss, (output - base).square().flatten(1).mean(1))
    assert any(p.grad is not None and p.grad.any() for p in adapters.parameters())
    assert loss.any()


def test_a_class_word_keeps_its_meaning_while_the_trigger_word_learns(tmp_path) -> None:
    host = ToyHost()
    made = job(tmp_path, host=host, data=DataConfig(resolution=32, class_word="cat"), steps=40)
    made.images = replace(made.images, trigger_word="zork")
    adapters = check(made)
    dataset = encode(made, adapters)
    run = build_run(made, dataset, adapters)
    batches = [next(run.batches) for _ in range(20)]

    assert host.images_encoded == 5  # the copies share their pictures' latents
    assert [b.captions[0].partition(",")[0] for b in batches if b.is_regularisation] == ["cat"] * 10
    assert [b.captions[0].partition(",")[0] for b in batches if not b.is_regularisation] == [
        "zork"
    ] * 10
    result = run_job(made)
    assert result.status == "finished"
    assert json.loads((result.folder.path / "job.json").read_text())["data"]["class_word"] == "cat"


def test_layers_end_where_they_began(tmp_path) -> None:
    host = ToyHost()
    up, down = host.network.up, host.network.down
    run_job(job(tmp_path, host=host))
    assert host.network.up is up
    assert host.network.down is down
    assert DOWN in host.layers()


def test_a_run_goes_on_from_any_file_with_that_files_rank(tmp_path) -> None:
    first = run_job(job(tmp_path / "first"))
    going_on = job(tmp_path / "second", lr=1e-9, steps=1, adapter=AdapterConfig(rank=7, alpha=1.0))
    going_on.start_from = first.lora
    second = run_job(going_on)

    before, after = load_file(first.lora), load_file(second.lora)
    assert before.keys() == after.keys()
    for key, tensor in before.items():
        torch.testing.assert_close(after[key], tensor, rtol=0, atol=1e-7)


def test_a_file_of_another_model_is_refused_before_any_work(tmp_path) -> None:
    bad = tmp_path / "bad.safetensors"
    save_file({"lora_unet_input_blocks_4_1_proj_in.lora_down.weight": torch.zeros(2, 4)}, bad)
    host = ToyHost()
    refused = job(tmp_path, host=host)
    refused.start_from = bad
    with pytest.raises(ValueError, match=r"bad\.safetensors"):
        run_job(refused)
    assert host.images_encoded == 0
