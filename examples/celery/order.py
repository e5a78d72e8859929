"""What the shop's web site does: it sends tasks and waits for their results.

python3 order.py             an order
python3 order.py label N     the label of order N
python3 order.py result ID   what became of a task
"""

import sys

from celery import Celery, chain, chord
from celery.result import AsyncResult

import shop

PATIENCE = 30


def order() -> None:
    lamp = chain(shop.price.s("lamp"), shop.with_tax.s(), shop.line.s("lamp")).delay()
    print("chain  ", lamp.get(timeout=PATIENCE))

    articles = ["lamp", "table", "chair", "chair"]
    bill = chord((chain(shop.price.s(article), shop.with_tax.s()) for article in articles), shop.total.s()).delay()
    print("chord  ", bill.get(timeout=PATIENCE))

    print("retry  ", shop.charge.delay("card 17", 333.2).get(timeout=PATIENCE))

    # Whoever does this has no application; the result comes by the rpc backend, to this process alone.
    pictures = Celery("pictures", broker=shop.app.conf.broker_url, backend="rpc://")
    small = pictures.send_task("resize", ["lamp.ppm"], {"width": 4}, queue="thumbs")
    print("resize ", small.get(timeout=PATIENCE))


def label(number: int) -> None:
    tell(shop.label.apply_async((number,), task_id=f"label-{number}"))


def tell(result: AsyncResult) -> None:
    try:
        print(result.get(timeout=PATIENCE))
    except Exception as error:
        print(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["label"]:
        label(int(sys.argv[2]))
    elif sys.argv[1:2] == ["result"]:
        tell(shop.app.AsyncResult(sys.argv[2]))
    else:
        order()
