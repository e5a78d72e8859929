#!/bin/sh
# Step export: a file for each year. What an earlier run of it left goes first, so that a restart begins with nothing.
set -eu

work=work/$ASYNCTASK_JOB exports=exports/$ASYNCTASK_JOB
rm -rf "$exports"
mkdir -p "$exports"
years=$(sed -n 's/.*"year": \([0-9]*\).*/\1/p' "$work/releases.jsonl" | sort -u)
for year in $years; do
    grep "\"year\": $year" "$work/releases.jsonl" >"$exports/$year.jsonl"
done
printf '{"years": [%s]}' "$(echo $years | tr ' ' ',')" >"$ASYNCTASK_RESULT"
echo "exported $(echo $years)"
