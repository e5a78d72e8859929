"""The worker of the storm: each effect is a line in done.txt, `JOB STEP TASK NUMBER`."""

import os

from asynctask_worker import run, worker

PAGE = 50
FILE = os.open("done.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)


@worker("storm")
def storm(payload, task):
    number = payload.get("item", "-")
    if task.job.step == "split" and number == "-":
        first, most = payload.get("from", 0), payload["items"]
        for item in range(first, min(first + PAGE, most)):
            task.item({"item": item})
        if first + PAGE < most:
            task.more({"from": first + PAGE, "items": most})
        number = f"from-{first}"
    os.write(FILE, f"{task.job.id} {task.job.step} {task.id} {number}\n".encode())


if __name__ == "__main__":
    run()
