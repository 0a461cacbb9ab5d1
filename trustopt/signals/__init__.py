"""What a run recorded, and its pictures.

Reading order: ``table.py`` (``Signals``: the columns that travel between nodes), ``recorder.py``
(a step's scalars -> columns and a JSONL file), ``plots.py`` (columns -> RGB array) and the drawing
below it: ``panels.py`` (which series share axes), ``axes.py``, ``canvas.py``, ``raster.py``; beside
it ``noise_levels.py`` and ``block_norms.py``, whose axes are not steps; ``export.py`` (files).
"""

from .recorder import Recorder, load_signals
from .table import Signals

__all__ = ["Recorder", "Signals", "load_signals"]
