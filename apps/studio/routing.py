from django.urls import URLPattern, path

from apps.studio.consumer import Changes

websocket_urlpatterns: list[URLPattern] = [path("ws/<str:workspace>", Changes.as_asgi())]  # type: ignore[arg-type]
