#!/bin/sh
# Step flatten, its first task: one more task for each file, in the queue that the step names with `each`.
set -eu

for file in exports/"$ASYNCTASK_JOB"/*.jsonl; do
    printf '{"item": {"file": "%s"}}\n' "${file##*/}" >>"$ASYNCTASK_SUBMIT"
done
echo "$(wc -l <"$ASYNCTASK_SUBMIT" | tr -d ' ') files to be flattened"
