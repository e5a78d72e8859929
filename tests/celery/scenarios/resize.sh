#!/bin/sh
# A kind with `mode: once`: the task on standard input, the result in a file.
payload=$(cat)
case $payload in
*'"silent"'*) ;;
*'"broken"'*) echo "no such picture"; exit 3 ;;
*'"killed"'*) kill -KILL $$ ;;
*) printf '{"got":%s}' "$payload" >"$ASYNCTASK_RESULT" ;;
esac
