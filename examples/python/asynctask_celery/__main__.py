"""The program: arguments, and the two things it does."""

import argparse
import os
import sys
from typing import List, Optional

from asynctask_worker import AHEAD, serve

from . import __version__
from .application import Refused, find, start


def main(arguments: Optional[List[str]] = None) -> int:
    """Works for the master, or prints the schedule. 64: the application was not found or is none."""
    parser = argparse.ArgumentParser(prog="asynctask_celery", description="Runs the tasks of a Celery application.")
    parser.add_argument(
        "-A", "--app", required=True, help="the application, as for `celery -A`: shop, shop.celery, shop:app"
    )
    parser.add_argument(
        "-l", "--loglevel", help="as for `celery worker`, with a line for each task at INFO; else the master's level"
    )
    parser.add_argument(
        "--ahead", type=int, default=AHEAD, help="tasks taken beyond the one in hand (default %(default)s)"
    )
    parser.add_argument("--import-beat", action="store_true", help="print beat_schedule as scheduled_workers, and end")
    parser.add_argument("--version", action="version", version=__version__)
    options = parser.parse_args(arguments)
    # As `celery -A` does: a program that is started by its path has another folder there.
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        app = find(options.app)
        if options.import_beat:
            from .beat import printed

            print(printed(app), end="")
            return 0
        if "ASYNCTASK_CELERY_NODE" not in os.environ:
            # It would take each task for one that it cannot read.
            queue = os.environ.get("ASYNCTASK_QUEUE", "?")
            raise Refused(f'queue "{queue}" has no `protocol: celery` in the settings of its master')
        application = start(app, options.app, options.loglevel)
    except Refused as refused:
        print(f"error: {refused}", file=sys.stderr)
        return 64
    from .tasks import CeleryWork

    serve(application.name, CeleryWork(application), options.ahead)
    return 0


if __name__ == "__main__":
    sys.exit(main())
