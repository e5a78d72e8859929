-- An order with its mail, and one that is rolled back with its mail.
CREATE TABLE IF NOT EXISTS orders (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, item text NOT NULL);

BEGIN;
WITH placed AS (INSERT INTO orders (item) VALUES ('a kettle') RETURNING id)
SELECT asynctask.submit('mails', json_build_object('order', id)) FROM placed;
COMMIT;

BEGIN;
WITH placed AS (INSERT INTO orders (item) VALUES ('a mistake') RETURNING id)
SELECT asynctask.submit('mails', json_build_object('order', id)) FROM placed;
ROLLBACK;

-- In ten minutes, and only once in this transaction's life.
SELECT asynctask.submit('reminders', '{"of": "a kettle"}', delay => interval '10 minutes', id => 'reminder-kettle');
