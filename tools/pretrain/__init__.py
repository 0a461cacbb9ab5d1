"""The parts of ``tools/pretrain_tiny.py``: pictures, autoencoder, denoiser, and the file."""
