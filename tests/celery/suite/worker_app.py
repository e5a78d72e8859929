"""The application that the workers under test run: that of the tests' session, in processes of its own."""

import os

from celery import Celery
from celery.contrib.testing.app import DEFAULT_TEST_CONFIG

app = Celery("celery.tests")
app.add_defaults(
    {
        **DEFAULT_TEST_CONFIG,
        "broker_url": os.environ["TEST_BROKER"],
        "result_backend": os.environ["TEST_BACKEND"],
        "result_extended": True,
        "task_create_missing_queues": False,
    }
)
# What the session's fixture does to its own one.
app.set_current()
app.set_default()
app.loader.import_task_module("t.integration.tasks")

from t.integration.tasks import ClassBasedAutoRetryTask  # noqa: E402

app.register_task(ClassBasedAutoRetryTask)
