"""The scoring server. It runs inside a model's environment: standard library, plus granian from the overlay.

Only relative imports in here: the package is called `runtime.serving` in the repository and `_portway.serving` where it
serves.
"""

from __future__ import annotations

__version__ = "0.1.0"
