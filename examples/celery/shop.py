"""The tasks of a small shop: a Celery application like any other. Nothing in it knows of asynctask."""

import os
import signal
from pathlib import Path

from celery import Celery
from celery.schedules import crontab

FOLDER = Path(__file__).resolve().parent
RESULTS = FOLDER / "results"
RESULTS.mkdir(exist_ok=True)

# Celery takes CELERY_BROKER_URL from the environment, if it is there, in the place of this address.
app = Celery("shop", broker="amqp://guest:guest@localhost", backend=f"file://{RESULTS}")
app.conf.task_routes = {"shop.label": {"queue": "labels"}}
app.conf.beat_schedule = {
    "clean every five minutes": {"task": "shop.clean", "schedule": crontab(minute="*/5"), "args": (7,)},
}

PRICES = {"lamp": 40, "table": 120, "chair": 60}


@app.task
def price(article: str) -> int:
    return PRICES[article]


@app.task
def with_tax(amount: float) -> float:
    return round(amount * 1.19, 2)


@app.task
def line(amount: float, article: str) -> str:
    return f"{article}: {amount:.2f}"


@app.task
def total(amounts: "list[float]") -> float:
    return round(sum(amounts), 2)


@app.task(bind=True, max_retries=5)
def charge(self, card: str, amount: float) -> str:
    """The bank answers at the third try."""
    if self.request.retries < 2:
        raise self.retry(countdown=1, exc=ConnectionError("the bank does not answer"))
    return f"{amount:.2f} from {card}, at try {self.request.retries + 1}"


@app.task
def label(order: int) -> str:
    """Uses the library of a printer, which dies when the printer is broken."""
    print(f"printing the label of order {order}")
    if (FOLDER / "printer_is_broken").exists():
        os.kill(os.getpid(), signal.SIGSEGV)
    return f"label of order {order}"


@app.task
def clean(days: int) -> None:
    print(f"what is older than {days} days is deleted")
