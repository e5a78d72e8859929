"""Step collect: has an outside system fetch a publication, and looks at it again until it has.

Nobody waits in a process meanwhile: the task is put off, with the crawl's name as its memo. What is begun twice after a crash
is the crawl alone, and only if the crash fell between its begin and the storing of the memo.
"""

from pathlib import Path
from typing import Any

import crawler
from asynctask_worker import Dead, Malformed, Snooze, Task, run, worker


@worker("crawl")
def crawl(payload: Any, task: Task) -> Any:
    if not isinstance(payload, dict) or not isinstance(payload.get("publication"), str):
        raise Malformed('expected {"publication": NAME}')
    folder = Path("work") / task.job.id / "collected"
    if task.memo is None:
        name = crawler.start(payload["publication"], folder)
        print(f"crawl {name} of {payload['publication']} begins")
        raise Snooze(0.2, memo={"crawl": name})
    name = task.memo["crawl"]
    try:
        files = crawler.files(name)
    except crawler.Unknown:
        raise Dead(f"the crawler knows no crawl {name}") from None
    if files is None:
        raise Snooze(0.2)
    print(f"crawl {name} has fetched {len(files)} files")
    return {"crawl": name, "files": len(files)}


if __name__ == "__main__":
    run()
