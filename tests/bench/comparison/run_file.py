"""The figures of a run: what each contestant reached in each round, and what follows from it. Kept as JSON."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple, Union

Value = Union[float, Dict[str, float]]


class Spread(NamedTuple):
    """Of the rounds of a run."""

    median: float
    least: float
    most: float

    @staticmethod
    def of(values: List[float]) -> "Spread":
        return Spread(statistics.median(values), min(values), max(values))


class Result(NamedTuple):
    name: str
    label: str
    tasks: int
    """Of one round."""
    rounds: Dict[int, Value]
    """A rate in tasks per second, or waits in milliseconds, by the number of the round."""
    absent: Optional[str]
    """Why there are no figures, or none of later rounds."""

    def rate(self, number: int) -> float:
        """Of a round. Not where waits are measured."""
        value = self.rounds[number]
        assert not isinstance(value, dict), f"{self.name} has waits"
        return value

    def spread(self) -> Spread:
        """Of the rates."""
        return Spread.of([self.rate(number) for number in self.rounds])

    def waits(self, key: str) -> Spread:
        """Of one of the waits."""
        return Spread.of([value[key] for value in self.rounds.values() if isinstance(value, dict)])

    def ratio(self, baseline: "Result") -> Optional[Spread]:
        """To another result of the same round: the machine's own speed, which changes with time, cancels out."""
        both = [number for number in self.rounds if number in baseline.rounds]
        return Spread.of([self.rate(number) / baseline.rate(number) for number in both]) if both else None


class Section(NamedTuple):
    name: str
    title: str
    baselines: Tuple[str, ...]
    results: List[Result]

    def has_waits(self) -> bool:
        return any(isinstance(value, dict) for result in self.results for value in result.rounds.values())

    def compared(self) -> List[Result]:
        """The baselines that have figures."""
        by_name = {result.name: result for result in self.results if result.rounds}
        return [by_name[name] for name in self.baselines if name in by_name]


class RunFile(NamedTuple):
    about: Dict[str, Any]
    """When and where it was taken, and with which versions."""
    groups: List[Section]

    @staticmethod
    def load(path: Path) -> "RunFile":
        return RunFile.parsed(path.read_text())

    @staticmethod
    def parsed(text: str) -> "RunFile":
        content = json.loads(text)
        groups = []
        for group in content["groups"]:
            results = []
            for one in group["results"]:
                rounds = {int(number): value for number, value in one["rounds"].items()}
                results.append(Result(one["name"], one["label"], one["tasks"], rounds, one["absent"]))
            groups.append(Section(group["name"], group["title"], tuple(group["baselines"]), results))
        return RunFile(content["about"], groups)

    def text(self) -> str:
        groups = [
            {**group._asdict(), "results": [result._asdict() for result in group.results]} for group in self.groups
        ]
        return json.dumps({"about": self.about, "groups": groups}, indent=1, ensure_ascii=False) + "\n"
