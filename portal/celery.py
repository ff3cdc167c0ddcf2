"""The Celery application. Its tasks are wake-ups: see apps/core/tasks.py and apps/batch/tasks.py."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")

app = Celery("portway")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["apps.core", "apps.batch"])
