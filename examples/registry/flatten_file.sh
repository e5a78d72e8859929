#!/bin/sh
# Step flatten, each of its items: one file of JSON lines becomes a table. {"file": "2023.jsonl"}
set -eu

file=$(sed -n 's/.*"file": *"\([0-9]*\.jsonl\)".*/\1/p')
table=exports/$ASYNCTASK_JOB/${file%.jsonl}.csv
if [ -e converter_is_broken ] && [ "$file" = 2024.jsonl ]; then
    echo "converting $file"
    kill -s SEGV $$
fi
{
    echo "year,buyer,amount"
    sed 's/.*"year": \([0-9]*\), "buyer": "\([^"]*\)", "amount": \([0-9]*\).*/\1,\2,\3/' "exports/$ASYNCTASK_JOB/$file"
} >"$table.new"
mv "$table.new" "$table"
echo "$file is now ${table##*/}"
