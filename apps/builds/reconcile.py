"""The builds' part of the controller."""

from apps.builds import engine, history, prune
from apps.core.controller import every

every(60.0, "environment-sizes")(prune.measure_some)
every(60.0, "build-leftovers")(engine.sweep)
every(60.0, "build-history")(history.sweep)
