"""Step coverage: how much of the releases names an amount. It reads what the steps before gave, and gives a result of its own."""

import json
from pathlib import Path
from typing import Any

from asynctask_worker import Task, run, worker


@worker("coverage")
def coverage(payload: Any, task: Task) -> Any:
    years = task.job.inputs["export"]["result"]["years"]
    exports = Path("exports") / task.job.id
    lines = [line for year in years for line in (exports / f"{year}.jsonl").read_text().splitlines()]
    named = sum(1 for line in lines if "amount" in json.loads(line))
    return {"releases": len(lines), "amount": named / len(lines)}


if __name__ == "__main__":
    run()
