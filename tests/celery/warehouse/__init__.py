"""A Django project with Celery as the guides of both have it."""

from .celery import app as celery_app

__all__ = ("celery_app",)
