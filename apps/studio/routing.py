from django.urls import URLPattern, path

from apps.studio.consumer import Changes
from apps.studio.tail import LogTail

websocket_urlpatterns: list[URLPattern] = [
    path("ws/<str:workspace>", Changes.as_asgi()),
    path("ws/<str:workspace>/logs/<str:endpoint>", LogTail.as_asgi()),
]
