"""The builds' part of the controller."""

from apps.builds import prune
from apps.core.controller import every

every(60.0, "environment-sizes")(prune.measure_some)
