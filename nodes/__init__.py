"""ComfyUI V3 nodes: the only package here that imports ComfyUI.

Reading order: ``image_set``, ``preset``, ``optimizer`` (what goes into a run), ``train`` (the
node), ``training`` (what it does), ``sampler`` (its sample pictures), ``live`` (what it shows
meanwhile), ``export_job`` and ``job_export`` (the same training as a job file), ``runs`` and
``routes`` (how a browser follows and stops it), ``web_routes``, ``run_routes``, ``prefill``,
``caption_routes`` and ``captions`` (what its extension asks).
``bridge`` hosts ComfyUI's models for the engine.
"""

from comfy_api.latest import ComfyExtension, io

from .adapter import Adapter
from .caption_routes import add_caption_routes
from .contact_sheet import ContactSheet
from .export_job import ExportJob
from .image_set import ImageSetFromImages, LoadImageSet
from .inspect_lora import InspectLora
from .objective import Objective
from .optimizer import Optimizer
from .preset import Preset
from .routes import add_routes
from .run_routes import add_run_routes
from .samples import Samples
from .save import SaveLora
from .signals import SignalPreview
from .tiny import TinyModel
from .train import TrainLora
from .web_routes import add_web_routes


class TrustOptExtension(ComfyExtension):
    """Lists the nodes of this pack and opens its routes."""

    async def on_load(self) -> None:
        """Register the routes, before ComfyUI's server starts to answer."""
        add_routes()
        add_web_routes()
        add_run_routes()
        add_caption_routes()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """Return the nodes in the order a graph uses them."""
        return [
            LoadImageSet,
            ImageSetFromImages,
            ContactSheet,
            Preset,
            Optimizer,
            Adapter,
            Objective,
            Samples,
            TrainLora,
            SaveLora,
            ExportJob,
            SignalPreview,
            InspectLora,
            TinyModel,
        ]
