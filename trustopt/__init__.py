"""TrustOpt's core: train LoRAs of SDXL and FLUX with trust-driven optimizers; knows no ComfyUI.

Reading order: ``train/loop.py`` (one step, top to bottom), then what it calls: ``data`` (folder to
batch), ``diffusion`` (noised, target, loss), ``adapters`` (the trained weights and their files),
``optim`` (the update), ``signals`` (what is recorded). ``host.py`` is what a model must offer.
"""

__version__ = "0.1.0"
