#!/bin/sh
# What a step left, when the job is over. It may come twice, and for a step that left nothing. The file of inputs says what the
# step gave.
set -eu

case $ASYNCTASK_STEP in
collect)
    crawl=$(sed -n 's/.*"crawl": *"\([0-9a-f]*\)".*/\1/p' "$ASYNCTASK_INPUTS")
    rm -rf "work/$ASYNCTASK_JOB/collected" "work/crawls/${crawl:-none}"
    ;;
process) rm -rf "work/$ASYNCTASK_JOB" ;;
export) rm -rf "exports/$ASYNCTASK_JOB" ;;
esac
echo "$ASYNCTASK_STEP of $ASYNCTASK_JOB_KEY is wiped"
