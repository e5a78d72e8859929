"""The settings of a Django project that has nothing but a model and tasks."""

import os

SECRET_KEY = "tests"
USE_TZ = True
INSTALLED_APPS = ["warehouse"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["WAREHOUSE_FILE"]}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

CELERY_BROKER_URL = os.environ["SHOP_BROKER"]
CELERY_RESULT_BACKEND = os.environ["SHOP_RESULTS"]
CELERY_TASK_DEFAULT_QUEUE = "warehouse"
CELERY_TIMEZONE = "Europe/Berlin"
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
