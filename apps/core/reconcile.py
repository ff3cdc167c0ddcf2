"""The core's part of the controller."""

from apps.core import operations
from apps.core.controller import every

every(2.0, "operations")(operations.sweep)
