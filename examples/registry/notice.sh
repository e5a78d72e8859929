#!/bin/sh
# For people: the summary of a job that failed, one line each.
set -eu

cat >>notices.txt
echo >>notices.txt
