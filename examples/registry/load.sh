#!/bin/sh
# Step process: the files of the crawl become one.
set -eu

work=work/$ASYNCTASK_JOB
cat "$work"/collected/*.jsonl >"$work/releases.new"
mv "$work/releases.new" "$work/releases.jsonl"
releases=$(wc -l <"$work/releases.jsonl")
printf '{"releases": %d}' "$releases" >"$ASYNCTASK_RESULT"
echo "$ASYNCTASK_JOB_KEY has $((releases)) releases"
