"""The objective: which noise levels are drawn, what is noised, and how errors are weighed."""

from .objective import Draw, Objective

__all__ = ["Draw", "Objective"]
