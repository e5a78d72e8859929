# Beginning of what is appended to the conftest of Celery's integration tests: in the place of its worker stands a master of
# asynctask with workers of the same application in other processes.

import subprocess
import sys
from pathlib import Path

from celery.utils.nodenames import anon_nodename

# One process, like the worker of the tests: they keep counts in their tasks.
SUITE_SETTINGS = """
transport: {broker}
control: {{ socket: none }}
celery: {{ node: "{node}", control: work, failures: drop }}
workers: {{ celery: {{ worker: suite, protocol: celery, processes: 1 }} }}
kinds:
  suite:
    command: [{python}, -m, asynctask_celery, --app, "worker_app:app"]
    env: {{ PYTHONPATH: "{path}" }}
supervisor: {{ grace: 2s, start_timeout: 60s }}
"""


@pytest.fixture(scope="session")
def celery_session_worker(celery_session_app, celery_includes, celery_class_tasks, tmp_path_factory):
    for module in celery_includes:
        celery_session_app.loader.import_task_module(module)
    for class_task in celery_class_tasks:
        celery_session_app.register_task(class_task)
    celery_session_app.set_current()
    celery_session_app.set_default()
    folder = tmp_path_factory.mktemp("master")
    settings = SUITE_SETTINGS.format(
        broker=TEST_BROKER,
        # The name that the tests ask for: with the number of this process.
        node=anon_nodename(),
        python=sys.executable,
        path=os.pathsep.join([os.environ["SUITE_FOLDER"], os.environ["PYTHONPATH"]]),
    )
    (folder / "asynctask.yaml").write_text(settings)
    log = Path(os.environ["SUITE_LOG"]).open("wb")
    master = subprocess.Popen(
        [os.environ["SUITE_PROGRAM"], "workers"], cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log
    )
    try:
        # The first task waits until there is a worker.
        celery_session_app.tasks["t.integration.tasks.identity"].delay(1).get(timeout=60)
        yield master
    finally:
        master.terminate()
        master.wait(30)
        log.close()


def pytest_collection_modifyitems(items):
    # Some have none of their own.
    for item in items:
        item.add_marker(pytest.mark.timeout(int(os.environ["SUITE_TIME_LIMIT"])), append=False)
