"""The `docker` driver: one container per replica, on the engine of this machine."""

from apps.compute.drivers.docker.driver import DockerDriver

__all__ = ["DockerDriver"]
