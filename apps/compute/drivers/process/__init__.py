"""The `process` driver: one model server per replica on this machine, under `runtime/shim.py`."""

from apps.compute.drivers.process.driver import ProcessDriver

__all__ = ["ProcessDriver"]
