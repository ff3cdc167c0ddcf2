"""Every page of the console. tests/console/test_access.py walks over all of them."""

from __future__ import annotations

from django.urls import path
from django.views.generic import RedirectView

from apps.console import (  # noqa: F401 -- they register their lists
    assets,
    batch,
    clusters,
    compute,
    data,
    jobs,
    people,
    serving,
    system,
)
from apps.console.site import site

urlpatterns = [
    path("console", RedirectView.as_view(pattern_name="console:index")),
    path("console/", site.urls),
]
