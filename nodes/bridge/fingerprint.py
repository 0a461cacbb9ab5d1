"""Short hashes that tell one set of loaded weights from another, cheaply."""

import hashlib
import uuid
from typing import Any

import torch
from comfy.quant_ops import QuantizedTensor
from torch import Tensor

_WEIGHTS = 8
_ENTRIES = 4096


def weights_fingerprint(patcher: Any, *notes: object) -> str:
    """Hash a few original weights of a patcher's model, and the LoRAs merged into it.

    The answer is the same whether the model is loaded, offloaded or in training.

    Args:
        patcher: A ModelPatcher of a MODEL, CLIP or VAE.
        notes: More that changes what the model computes, hashed by its ``repr``.

    Returns:
        16 hexadecimal digits.
    """
    digest = hashlib.sha256(repr(notes).encode())
    parameters = dict(patcher.model.named_parameters())
    names = sorted(n for n, p in parameters.items() if p.ndim > 1 and not p.is_meta)
    for name in names[:: max(1, len(names) // _WEIGHTS)][:_WEIGHTS]:
        backup = patcher.backup.get(name)
        _add(digest, name, parameters[name] if backup is None else backup.weight)
    for name in sorted(patcher.patches):
        for strength, patch, *_ in patcher.patches[name]:
            tensors = [t for t in getattr(patch, "weights", ()) if isinstance(t, Tensor)]
            _add(digest, f"{name} {strength}", *tensors)
    return digest.hexdigest()[:16]


def hooks_note(patcher: Any) -> str:
    """Return a note for injected hooks (bypass LoRAs), whose weights cannot be seen.

    It never repeats, so that nothing is taken for the same that might not be.
    """
    return uuid.uuid4().hex if patcher.injections else ""


def _add(digest: Any, name: str, *tensors: Tensor) -> None:
    digest.update(name.encode())
    for tensor in tensors:
        plain = tensor.dequantize() if isinstance(tensor, QuantizedTensor) else tensor
        few = plain.detach().as_subclass(Tensor).flatten()[:_ENTRIES].to("cpu")
        digest.update(f"{few.dtype} {tuple(plain.shape)}".encode())
        digest.update(few.contiguous().view(torch.uint8).numpy().tobytes())
