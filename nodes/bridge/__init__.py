"""ComfyUI's loaded MODEL, CLIP and VAE objects as a host of the engine.

Reading order: ``host`` (what the engine sees), ``session`` (how adapters get in and out of a
loaded model), ``frozen_ops`` and ``blocks`` (what runs instead of ComfyUI's layers meanwhile),
``denoise`` (one forward pass), ``conditioning`` and ``latents`` (captions and pictures),
``sampling`` (pictures from the model in training),
``identify``, ``layers``, ``fingerprint`` (what the model is), ``apply`` (the LoRA, afterwards).

The mechanism rests on ComfyUI v0.33.0's ModelPatcher: injections, wrappers and patches.
"""
