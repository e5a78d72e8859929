"""The outside system, as far as this example needs one: a crawl takes a moment, and is asked for by its name.

What is fetched are the releases of a publication, three files of JSON lines: {"year": 2023, "buyer": "…", "amount": 1000}.
"""

import json
import uuid
from pathlib import Path
from typing import List, Optional

CRAWLS = Path("work") / "crawls"
LOOKS = 2
"""How often a crawl is looked at before it is done."""

AMOUNTS = {"chile": [1200, 340, 75, 990], "moldova": [80, 410], "paraguay": [15, 610, 55]}


class Unknown(Exception):
    """There is no such crawl."""


def start(publication: str, folder: Path) -> str:
    """Begins a crawl, and gives its name."""
    name = uuid.uuid4().hex[:8]
    CRAWLS.mkdir(parents=True, exist_ok=True)
    _keep(name, {"publication": publication, "folder": str(folder), "looks": 0})
    return name


def files(name: str) -> Optional[List[str]]:
    """What was fetched; `None` as long as the crawl goes on."""
    try:
        crawl = json.loads((CRAWLS / name).read_text())
    except FileNotFoundError:
        raise Unknown(name) from None
    crawl["looks"] += 1
    _keep(name, crawl)
    return None if crawl["looks"] < LOOKS else _fetch(crawl)


def _fetch(crawl: dict) -> List[str]:
    folder = Path(crawl["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    amounts = AMOUNTS.get(crawl["publication"], [100])
    fetched = []
    for year in (2023, 2024, 2025):
        lines = (json.dumps({"year": year, "buyer": f"office {n}", "amount": amount}) for n, amount in enumerate(amounts))
        (folder / f"{year}.jsonl").write_text("\n".join(lines) + "\n")
        fetched.append(f"{year}.jsonl")
    return fetched


def _keep(name: str, crawl: dict) -> None:
    new = CRAWLS / f"{name}.new"
    new.write_text(json.dumps(crawl))
    new.replace(CRAWLS / name)
