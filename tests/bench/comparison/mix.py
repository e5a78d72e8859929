"""How long the short tasks of a mix waited, and how much of it the length of the queue explains.

Explained is what they would have waited in an ideal queue: the same tasks, sent at the same moments and each taking
as long as it took, begun in the order in which they were sent, each as soon as one of the workers is free, at no
cost. What is over that is the system's: its transport, its round trips, and tasks that wait behind a long one while a
worker is free.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Dict, List, NamedTuple

NANOSECONDS = 1e6
"""Of a millisecond."""


class Run(NamedTuple):
    """One task, its moments in nanoseconds; those that were sent together are apart by their order."""

    sent: int
    began: int
    ended: int
    is_long: bool


def parsed(text: str) -> List[Run]:
    """From the lines that the kind `mixed` writes."""
    numbers = (line.split() for line in text.splitlines())
    return [Run(int(sent), int(began), int(ended), is_long == "1") for sent, began, ended, is_long in numbers]


def explained(runs: Sequence[Run], workers: int) -> Dict[int, int]:
    """When each task would have begun in the ideal queue, by when it was sent."""
    free_at = [0] * workers
    begins: Dict[int, int] = {}
    assert len({run.sent for run in runs}) == len(runs), "tasks are told apart by their moments"
    for run in sorted(runs):
        begins[run.sent] = max(run.sent, heapq.heappop(free_at))
        heapq.heappush(free_at, begins[run.sent] + run.ended - run.began)
    return begins


def waits(runs: Sequence[Run], workers: int) -> Dict[str, float]:
    """Of the short tasks, in milliseconds."""
    ideal = explained(runs, workers)
    short = [run for run in runs if not run.is_long]
    real = [run.began - run.sent for run in short]
    of_queue = [ideal[run.sent] - run.sent for run in short]
    over = [run.began - ideal[run.sent] for run in short]
    return {
        "wait_p50": percentile(real, 50),
        "wait_p99": percentile(real, 99),
        "explained_p50": percentile(of_queue, 50),
        "explained_p99": percentile(of_queue, 99),
        "over_p50": percentile(over, 50),
        "over_p99": percentile(over, 99),
    }


def percentile(samples: Sequence[int], share: int) -> float:
    """In milliseconds."""
    return sorted(samples)[(len(samples) - 1) * share // 100] / NANOSECONDS
