"""A small project: pictures (PPM, so that nothing has to be installed) become thumbnails, and each one is announced.

asynctask submit thumbnails '{"file": "sample.ppm", "width": 8}'
asynctask workers --halt-when-empty
"""

import re
from pathlib import Path
from typing import Any, Tuple

from asynctask_worker import Dead, Malformed, Task, run, worker

Picture = Tuple[int, int, bytes]


@worker("thumbnail")
def thumbnail(payload: Any, task: Task) -> None:
    if not isinstance(payload, dict) or not isinstance(payload.get("file"), str):
        raise Malformed('expected {"file": NAME, "width": PIXELS}')
    path = Path(payload["file"])
    try:
        picture = read(path)
    except FileNotFoundError:
        # It will not appear by trying again.
        raise Dead(f"{path}: no such file") from None
    task.progress(50, f"{path} is read")
    small = path.with_suffix(".thumb.ppm")
    # Written beside it and renamed, because a task may run twice.
    new = path.with_suffix(f".{task.id}.new")
    new.write_bytes(written(scaled(picture, int(payload.get("width", 16)))))
    new.replace(small)
    print(f"{path} is now {small}")
    task.submit("announcements", {"file": str(small)})


@worker("announce")
def announce(payload: Any, task: Task) -> None:
    task.log("INFO", f"{payload['file']} is there")


def read(path: Path) -> Picture:
    """Reads a binary PPM without comments and with 8 bits a colour."""
    content = path.read_bytes()
    header = re.match(rb"P6\s+(\d+)\s+(\d+)\s+255\s", content)
    if header is None:
        raise Dead(f"{path} is not a picture of this kind")
    return int(header[1]), int(header[2]), content[header.end() :]


def scaled(picture: Picture, width: int) -> Picture:
    """The picture with this many columns: for each pixel the one that lies nearest."""
    columns, rows, pixels = picture
    height = max(1, rows * width // columns)
    nearest = ((y * rows // height) * columns + x * columns // width for y in range(height) for x in range(width))
    return width, height, b"".join(pixels[3 * at : 3 * at + 3] for at in nearest)


def written(picture: Picture) -> bytes:
    width, height, pixels = picture
    return b"P6\n%d %d\n255\n" % (width, height) + pixels


if __name__ == "__main__":
    run()
