"""What an application accepts, and what it does not. The producers would take pickle; the settings of who works decide."""

from conftest import IS_OURS, PATIENCE, expect_letter

from shop import app, tasks


def send(queue):
    return app.send_task("shop.tasks.total", ({1, 2, 39},), serializer="pickle", queue=queue)


def test_pickle_where_it_is_allowed():
    assert send("trusting").get(timeout=PATIENCE) == 42


def test_pickle_where_it_is_not():
    result = send("celery")
    expect_letter(result.id, "malformed", "pickle")
    if not IS_OURS:
        assert result.state == "PENDING"
    assert tasks.add.apply_async((1, 2), queue="celery").get(timeout=PATIENCE) == 3, "the others go on"
