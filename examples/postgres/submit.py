"""An order with its mail, in one transaction: python3 submit.py postgresql://localhost/shop"""

import json
import sys

import psycopg


def order(connection, item):
    """Stores an order and the task that mails its confirmation; both or none."""
    with connection.transaction():
        (number,) = connection.execute("INSERT INTO orders (item) VALUES (%s) RETURNING id", (item,)).fetchone()
        payload = json.dumps({"order": number, "item": item})
        connection.execute("SELECT asynctask.submit('mails', %s::text)", (payload,))
        if not item:
            raise ValueError("an order of nothing")


with psycopg.connect(sys.argv[1], autocommit=True) as connection:
    connection.execute(
        "CREATE TABLE IF NOT EXISTS orders (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, item text NOT NULL)"
    )
    order(connection, "a kettle")
    try:
        order(connection, "")
    except ValueError as error:
        print("rolled back:", error)
    (count,) = connection.execute("SELECT count(*) FROM orders").fetchone()
    print("orders:", count)
