CREATE FUNCTION @.store_task(
    queue text, body bytea, delay interval, id text, expires_at timestamptz, headers text, wake boolean
) RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known int;
    task_id text := coalesce(id, gen_random_uuid()::text);
    due_at bigint;
BEGIN
    IF queue IS NULL OR body IS NULL THEN
        RAISE EXCEPTION 'a task has a queue and a payload' USING ERRCODE = '22004';
    END IF;
    IF queue !~ '^[A-Za-z0-9][A-Za-z0-9_.:-]{0,199}$' OR starts_with(queue, 'asynctask.') THEN
        RAISE EXCEPTION '% is not a properly-formatted queue name', quote_literal(queue) USING ERRCODE = '22023';
    END IF;
    IF delay < interval '0' OR delay > interval '10 years' THEN
        RAISE EXCEPTION 'a delay is 0 to 10 years' USING ERRCODE = '22023';
    END IF;
    IF headers IS NOT NULL AND json_typeof(headers::json) <> 'object' THEN
        RAISE EXCEPTION 'headers are a JSON object' USING ERRCODE = '22023';
    END IF;
    SELECT q.id INTO known FROM @.queue AS q WHERE q.name = store_task.queue;
    IF known IS NULL THEN
        INSERT INTO @.queue (name) VALUES (store_task.queue) ON CONFLICT DO NOTHING;
        SELECT q.id INTO known FROM @.queue AS q WHERE q.name = store_task.queue;
    END IF;
    due_at := floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint
        + ceil(extract(epoch FROM coalesce(delay, interval '0')) * 1000)::bigint;
    INSERT INTO @.task (queue, due, expires_at, message_id, headers, body)
        VALUES (known, due_at, floor(extract(epoch FROM store_task.expires_at) * 1000)::bigint, task_id,
            store_task.headers, store_task.body);
    IF wake OR EXISTS (SELECT 1 FROM @.node AS n WHERE n.waits) THEN
        PERFORM pg_notify('asynctask_' || rtrim('@.', '.'), known || ' ' || due_at);
    END IF;
    RETURN task_id;
END $$;
REVOKE EXECUTE ON FUNCTION @.store_task(text, bytea, interval, text, timestamptz, text, boolean) FROM PUBLIC;
CREATE FUNCTION @.submit(
    queue text, payload text, delay interval DEFAULT '0', id text DEFAULT NULL, expires_at timestamptz DEFAULT NULL,
    headers text DEFAULT NULL, wake boolean DEFAULT false
) RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM payload::json;
    RETURN @.store_task(queue, convert_to(payload, 'UTF8'), delay, id, expires_at, headers, wake);
END $$;
CREATE FUNCTION @.submit(
    queue text, payload json, delay interval DEFAULT '0', id text DEFAULT NULL, expires_at timestamptz DEFAULT NULL,
    headers text DEFAULT NULL, wake boolean DEFAULT false
) RETURNS text LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS
    'SELECT @.store_task(queue, convert_to(payload::text, ''UTF8''), delay, id, expires_at, headers, wake)';
CREATE FUNCTION @.submit(
    queue text, payload jsonb, delay interval DEFAULT '0', id text DEFAULT NULL, expires_at timestamptz DEFAULT NULL,
    headers text DEFAULT NULL, wake boolean DEFAULT false
) RETURNS text LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS
    'SELECT @.store_task(queue, convert_to(payload::text, ''UTF8''), delay, id, expires_at, headers, wake)';
CREATE FUNCTION @.submit(
    queue text, payload bytea, delay interval DEFAULT '0', id text DEFAULT NULL, expires_at timestamptz DEFAULT NULL,
    headers text DEFAULT NULL, wake boolean DEFAULT false
) RETURNS text LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS
    'SELECT @.store_task(queue, payload, delay, id, expires_at, headers, wake)';
REVOKE EXECUTE ON FUNCTION @.submit(text, text, interval, text, timestamptz, text, boolean) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION @.submit(text, json, interval, text, timestamptz, text, boolean) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION @.submit(text, jsonb, interval, text, timestamptz, text, boolean) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION @.submit(text, bytea, interval, text, timestamptz, text, boolean) FROM PUBLIC;
