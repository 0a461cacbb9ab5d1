"""Socket types of this pack, and the category its nodes are listed under."""

from comfy_api.latest import io

CATEGORY = "model/training/TrustOpt"

ImageSetSocket = io.Custom("TRUSTOPT_IMAGE_SET")
"""``trustopt.data.ImageSet``"""

PlanSocket = io.Custom("TRUSTOPT_TRAIN_PLAN")
"""``trustopt.plan.TrainPlan``"""

OptimizerSocket = io.Custom("TRUSTOPT_OPTIMIZER")
"""``trustopt.config.OptimizerConfig``"""

AdapterSocket = io.Custom("TRUSTOPT_ADAPTER")
"""Fields of ``trustopt.config.AdapterConfig`` that the user set; the plan gives the others."""

ObjectiveSocket = io.Custom("TRUSTOPT_OBJECTIVE")
"""``nodes.objective.ObjectiveChoice``: the same of ``ObjectiveConfig`` and ``DataConfig``."""

SignalsSocket = io.Custom("TRUSTOPT_SIGNALS")
"""``trustopt.signals.Signals``"""

SamplesSocket = io.Custom("TRUSTOPT_SAMPLES")
"""``nodes.samples.SampleChoice``: prompts, and how and when they are sampled."""
