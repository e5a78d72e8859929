#!/bin/sh
# A worker kind in shell for the asynctask master, mode: once: one process a task, the payload on stdin.
#
#     asynctask submit checksums '{"any": "payload"}'
#     asynctask workers --halt-when-empty
#
# The exit status is the outcome: 0 done, 75 try again later, 65 never again (a dead letter), anything else an error, for
# which the last line of output is the text. What is printed goes to the log.
set -eu

new=$(mktemp checksum.XXXXXX)
trap 'rm -f "$new"' EXIT
cat >"$new"

if [ ! -s "$new" ]; then
    echo "the payload is empty"
    exit 65
fi
# The lock ends with this process, however that ends. Somebody else has it: the queue's retry policy says when to come again.
exec 9>checksums.lock
if ! flock -n 9; then
    echo "checksums.txt is locked, attempt $ASYNCTASK_ATTEMPT of $ASYNCTASK_MAX_ATTEMPTS"
    exit 75
fi
sum=$(sha256sum <"$new" | cut -d ' ' -f 1)
echo "$sum $ASYNCTASK_TASK_ID" >>checksums.txt
echo "the checksum is $sum"
