#!/bin/sh
# A worker kind in shell for a queue of Celery's: the task on stdin, its result in the file that ASYNCTASK_RESULT names.
#
#     {"task":"resize","args":["lamp.ppm"],"kwargs":{"width":4}}
#
# It scales a picture in the format P3, which is text: width and height, the largest value, three numbers for each point.
set -eu

task=$(cat)
picture=$(printf %s "$task" | sed -n 's/.*"args": *\["\([a-z]*\)\.ppm"\].*/\1/p')
width=$(printf %s "$task" | sed -n 's/.*"width": *\([0-9]*\).*/\1/p')
if [ -z "$picture" ] || [ ! -f "pictures/$picture.ppm" ]; then
    echo "there is no such picture: $task"
    exit 65
fi
to="pictures/$picture.${width:=8}.ppm"
awk -v w="$width" '
    { for (i = 1; i <= NF; i++) word[n++] = $i }
    END {
        h = int(word[2] * w / word[1]); if (h < 1) h = 1
        print "P3"; print w, h; print word[3]
        for (y = 0; y < h; y++) for (x = 0; x < w; x++) {
            at = 4 + 3 * (int(y * word[2] / h) * word[1] + int(x * word[1] / w))
            print word[at], word[at + 1], word[at + 2]
        }
    }' "pictures/$picture.ppm" >"$to"
printf '{"picture": "%s", "width": %s}' "${to#pictures/}" "$width" >"$ASYNCTASK_RESULT"
echo "$picture.ppm is now ${to#pictures/}"
