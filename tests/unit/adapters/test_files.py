"""Mirrors trustopt/adapters/files.py and container.py."""

import errno
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save

from trustopt.adapters import container
from trustopt.adapters.files import free_path, save_lora, write_atomically
from trustopt.adapters.patch import LayerPatch

TENSORS = {
    "b.lora_down.weight": torch.arange(6, dtype=torch.float16).reshape(2, 3),
    "a.lora_up.weight": torch.ones(3, 2, dtype=torch.bfloat16),
    "a.alpha": torch.tensor(4.0),
    "c.dora_scale": torch.rand(1, 3, generator=torch.Generator().manual_seed(0)),
}


def patches(seed: int = 0) -> dict[str, LayerPatch]:
    source = torch.Generator().manual_seed(seed)
    factors = {
        "lora_down.weight": torch.randn(4, 8, generator=source),
        "lora_up.weight": torch.randn(12, 4, generator=source),
    }
    return {"img_in": LayerPatch("lora", factors, 2.0)}


def test_the_data_is_laid_out_as_the_library_does() -> None:
    metadata = {"ss_a": 'é " \n', "b": "2"}
    ours = container.header(TENSORS, metadata) + b"".join(container.data(TENSORS))
    theirs = save(TENSORS, metadata)
    start = 8 + int.from_bytes(theirs[:8], "little")
    assert ours[start:] == theirs[start:]
    assert len(ours) == len(theirs)
    assert ours[:8] == theirs[:8]  # header length: padding agrees, too


def test_hashes_are_the_fields() -> None:
    metadata = {"ss_a": "1", "other": "2"}
    reference = save(TENSORS, {"ss_a": "1"})
    start = 8 + int.from_bytes(reference[:8], "little")
    assert container.model_hash(TENSORS) == hashlib.sha256(reference[start:]).hexdigest()
    window = hashlib.sha256(reference[0x100000:0x110000]).hexdigest()[:8]
    assert container.legacy_hash(TENSORS, metadata) == window


def test_legacy_hash_of_a_file_over_a_megabyte() -> None:
    source = torch.Generator().manual_seed(0)
    tensors = {f"t{i}": torch.randn(150_001 + i, generator=source) for i in range(3)}
    metadata = {"ss_x": "y"}
    reference = save(tensors, metadata)
    window = hashlib.sha256(reference[0x100000:0x110000]).hexdigest()[:8]
    assert container.legacy_hash(tensors, {**metadata, "z": "left out"}) == window


def test_the_library_reads_what_is_written(tmp_path: Path) -> None:
    metadata = {"ss_output_name": "名前", "note": "x" * 13}
    path = save_lora(tmp_path / "a.safetensors", patches(), family="flux", metadata=metadata)
    loaded = load_file(path)
    assert set(loaded) == {
        "lora_unet_img_in.alpha",
        "lora_unet_img_in.lora_down.weight",
        "lora_unet_img_in.lora_up.weight",
    }
    assert loaded["lora_unet_img_in.alpha"].dtype == torch.float32
    assert loaded["lora_unet_img_in.alpha"].shape == ()
    assert loaded["lora_unet_img_in.lora_up.weight"].dtype == torch.float16
    with safe_open(path, framework="pt") as file:
        assert metadata.items() <= file.metadata().items()
        assert file.metadata()["sshs_model_hash"] == container.file_model_hash(path)


def test_equal_content_gives_equal_bytes_and_notes_leave_the_hash(tmp_path: Path) -> None:
    metadata = {f"ss_{i}": str(i) for i in range(20)}
    first = save_lora(tmp_path / "a.safetensors", patches(), family="flux", metadata=metadata)
    second = save_lora(tmp_path / "b.safetensors", patches(), family="flux", metadata=metadata)
    assert first.read_bytes() == second.read_bytes()
    later = {**metadata, "ss_training_started_at": "1.0"}
    third = save_lora(tmp_path / "c.safetensors", patches(), family="flux", metadata=later)
    assert third.read_bytes() != first.read_bytes()
    assert container.file_model_hash(third) == container.file_model_hash(first)


def test_dora_scale_and_alpha_stay_exact(tmp_path: Path) -> None:
    patch = patches()["img_in"]
    tensors = {**patch.tensors, "dora_scale": torch.full((1, 8), 1.0001)}
    path = save_lora(
        tmp_path / "a.safetensors",
        {"img_in": LayerPatch("lora", tensors, 1.0001)},
        family="flux",
        metadata={},
        dtype=torch.bfloat16,
    )
    loaded = load_file(path)
    assert loaded["lora_unet_img_in.dora_scale"].eq(torch.tensor(1.0001)).all()
    assert loaded["lora_unet_img_in.alpha"] == torch.tensor(1.0001)


def test_an_existing_name_is_numbered_refused_or_replaced(tmp_path: Path) -> None:
    wanted = tmp_path / "deep" / "a.safetensors"
    first = save_lora(wanted, patches(0), family="flux", metadata={})
    second = save_lora(wanted, patches(1), family="flux", metadata={})
    third = save_lora(wanted, patches(2), family="flux", metadata={})
    assert [p.name for p in (first, second, third)] == [
        "a.safetensors",
        "a-2.safetensors",
        "a-3.safetensors",
    ]
    before = first.read_bytes()
    with pytest.raises(ValueError, match=r"a.safetensors exists already"):
        save_lora(wanted, patches(3), family="flux", metadata={}, existing="refuse")
    assert first.read_bytes() == before
    replaced = save_lora(wanted, patches(3), family="flux", metadata={}, existing="replace")
    assert replaced == first
    assert first.read_bytes() != before
    assert free_path(tmp_path / "new.safetensors") == tmp_path / "new.safetensors"


def test_values_that_do_not_fit_the_dtype_are_refused(tmp_path: Path) -> None:
    tensors = {"lora_down.weight": torch.ones(1, 2), "lora_up.weight": torch.full((2, 1), 1e6)}
    large = {"img_in": LayerPatch("lora", tensors, 1.0)}
    path = tmp_path / "a.safetensors"
    with pytest.raises(ValueError, match=r"1 tensors are not finite in float16.*save as bf16"):
        save_lora(path, large, family="flux", metadata={})
    assert list(tmp_path.iterdir()) == []
    save_lora(path, large, family="flux", metadata={}, dtype=torch.bfloat16)


def failing(error: OSError) -> Iterator[bytes]:
    yield b"part of a file"
    raise error


def test_a_full_disk_leaves_nothing_and_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"old")
    with pytest.raises(OSError, match="the disk is full: cannot write") as caught:
        write_atomically(path, failing(OSError(errno.ENOSPC, "No space left on device")))
    assert caught.value.errno == errno.ENOSPC
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]
    assert path.read_bytes() == b"old"


def test_an_interrupt_leaves_nothing(tmp_path: Path) -> None:
    def interrupted() -> Iterator[bytes]:
        yield b"part"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "a.safetensors", interrupted())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="folder permissions are POSIX's")
def test_files_get_the_users_usual_permissions(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_atomically(path, [b"x"])
    (tmp_path / "plain").write_bytes(b"x")
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_the_data_is_flushed_before_the_rename(tmp_path: Path, monkeypatch: Any) -> None:
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append("fsync"), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("replace"), replace(a, b)))
    write_atomically(tmp_path / "a.safetensors", [b"x"])
    assert calls[:2] == ["fsync", "replace"]


def test_integer_tensors_are_no_lora() -> None:
    with pytest.raises(ValueError, match=r"x is torch\.int64; a LoRA file holds floating"):
        container.header({"x": torch.tensor(1)}, {})
