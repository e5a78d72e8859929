"""The application that the workers under test run: that of the tests' session, in processes of its own."""

import os

from celery import Celery

app = Celery("celery.tests", broker=os.environ["TEST_BROKER"], backend=os.environ["TEST_BACKEND"])
app.conf.update(
    result_extended=True,
    task_create_missing_queues=False,
    accept_content={"json"},
    enable_utc=True,
    timezone="UTC",
)
# What the session's fixture does to its own one.
app.set_current()
app.set_default()
app.loader.import_task_module("t.integration.tasks")

from t.integration.tasks import ClassBasedAutoRetryTask  # noqa: E402

app.register_task(ClassBasedAutoRetryTask)
