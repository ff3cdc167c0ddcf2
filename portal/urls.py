from django.urls import URLPattern, URLResolver, include, path
from django.views.i18n import set_language

urlpatterns: list[URLPattern | URLResolver] = [
    path("", include("apps.api.urls")),
    path("language", set_language, name="language"),
    path("accounts/", include("allauth.urls")),
    path("", include("apps.console.urls")),
    path("", include("apps.studio.urls")),
]
