"""The accounts' part of the controller."""

from apps.accounts import people
from apps.core.controller import every

every(3600.0, "sessions")(people.clear_sessions)  # not only each day: a killed controller's lease lasts three rounds
