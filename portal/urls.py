from django.urls import URLPattern, URLResolver, include, path

urlpatterns: list[URLPattern | URLResolver] = [
    path("", include("apps.api.urls")),
    path("accounts/", include("allauth.urls")),
    path("", include("apps.console.urls")),
    path("", include("apps.studio.urls")),
]
