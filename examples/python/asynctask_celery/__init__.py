"""Runs the tasks of an existing Celery application, unmodified, as a worker kind of the asynctask master.

    kinds: { shop: { command: [python3, -m, asynctask_celery, --app, "shop:app"] } }

The master takes the messages from the queues and hands them over; this package decodes them with kombu under the
application's `accept_content`, and runs Celery's own tracer on them in the main thread, one after the other. Results,
signals, callbacks, errbacks, chains, chords and retries are Celery's code and not ours. What the master needs to know, it is
told at the end of each task: done, or a dead letter.

Of the application's environment this needs celery 5.3 or later and nothing else. The connections that are opened are those of
the application: its result backend, and its broker when a task publishes.

The files: `application` finds the application and starts it as a child of Celery's prefork pool starts, `messages` reads what
came, `requests` makes the objects of Celery's worker for it, `tasks` runs it, `limits` ends what takes too long, `lost` reports
what no worker could report on, `ready` says what the master may know, `logs` sets up the log, `beat` prints `beat_schedule`.
"""

__version__ = "0.1.0"
