"""The safetensors container, written so that equal content gives equal bytes.

The library's own writer lays metadata out in random order, so no two files are the same. This
one keeps the caller's order, and otherwise writes what the library does: tensors sorted by dtype,
then name, and a header padded to eight bytes.

Source:
    https://github.com/huggingface/safetensors, README, "Format".
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

# In the library's order: the widest dtype first, so that all data is aligned.
_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
}
_RANKS = {dtype: rank for rank, dtype in enumerate(_DTYPES)}

_LEGACY_WINDOW = range(0x100000, 0x110000)


def header(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """Return everything before the first tensor's bytes.

    Raises:
        ValueError: If a tensor's dtype is none a LoRA file holds.
    """
    entries: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    offset = 0
    for name, tensor in _ordered(tensors):
        end = offset + tensor.numel() * tensor.element_size()
        entries[name] = {
            "dtype": _DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def data(tensors: Mapping[str, Tensor]) -> Iterator[bytes]:
    """Yield the bytes of each tensor, in the order of the header."""
    for _, tensor in _ordered(tensors):
        yield tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def model_hash(tensors: Mapping[str, Tensor]) -> str:
    """Return ``sshs_model_hash``: SHA-256 of the tensor bytes alone, 64 hex digits.

    Metadata does not enter, so the same weights have the same hash whenever they were trained.
    A1111 and Civitai show its first 12 digits as AutoV3.
    """
    digest = hashlib.sha256()
    for chunk in data(tensors):
        digest.update(chunk)
    return digest.hexdigest()


def file_model_hash(path: Path) -> str:
    """Return ``sshs_model_hash`` of a file: SHA-256 of everything after its header."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        file.seek(8 + int.from_bytes(file.read(8), "little"))
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def legacy_hash(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """Return ``sshs_legacy_hash``: 8 hex digits over 64 KiB of the file with ``ss_*`` only."""
    kept = {key: value for key, value in metadata.items() if key.startswith("ss_")}
    digest, position = hashlib.sha256(), 0
    for chunk in (header(tensors, kept), *data(tensors)):
        start = max(_LEGACY_WINDOW.start - position, 0)
        digest.update(chunk[start : max(_LEGACY_WINDOW.stop - position, 0)])
        position += len(chunk)
        if position >= _LEGACY_WINDOW.stop:
            break
    return digest.hexdigest()[:8]


def _ordered(tensors: Mapping[str, Tensor]) -> list[tuple[str, Tensor]]:
    for name, tensor in tensors.items():
        if tensor.dtype not in _RANKS:
            raise ValueError(f"{name} is {tensor.dtype}; a LoRA file holds floating tensors only")
    return sorted(tensors.items(), key=lambda item: (_RANKS[item[1].dtype], item[0]))
