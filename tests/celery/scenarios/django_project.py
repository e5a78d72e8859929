"""A Django project with a model in SQLite."""

import os
import sqlite3

import django
import pytest
from celery import chain
from conftest import PATIENCE, expect_letter

os.environ["DJANGO_SETTINGS_MODULE"] = "warehouse.settings"
django.setup()

from django.core.management import call_command  # noqa: E402
from django.db import IntegrityError  # noqa: E402
from warehouse import models, tasks  # noqa: E402


def get(result):
    return result.get(timeout=PATIENCE)


@pytest.fixture(scope="module", autouse=True)
def tables():
    call_command("migrate", run_syncdb=True, verbosity=0)


def test_a_task_stores_a_row():
    assert get(tasks.store.delay("first")) == 1
    assert list(models.Crate.objects.values_list("label", flat=True)) == ["first"]


def test_an_exception_of_the_database():
    result = tasks.store.delay("first")
    with pytest.raises(IntegrityError, match="UNIQUE"):
        get(result)
    expect_letter(result.id, "failed", "UNIQUE", "warehouse")
    assert models.Crate.objects.count() == 1, "the transaction was rolled back"


def test_a_chain_of_stores():
    assert get(chain(tasks.store.si("second"), tasks.store.si("third")).delay()) == 3


def test_no_connection_is_left_open():
    assert get(tasks.connected.delay()) is False


def test_the_file_is_the_projects():
    with sqlite3.connect(os.environ["WAREHOUSE_FILE"]) as file:
        assert file.execute("select count(*) from warehouse_crate").fetchone() == (3,)
