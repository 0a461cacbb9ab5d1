"""What runs a model for the engine outside ComfyUI: the diffusers host and the tiny models."""
