"""A schedule of the settings that sends a Celery task."""

from conftest import FOLDER, lines, ours, until

pytestmark = ours


def test_it_fires_each_second():
    path = FOLDER / "fired"
    fired = until(lambda: len(lines(path)) >= 3 and lines(path), "it has not fired three times")
    assert {text for _, text in fired} == {"of a schedule"}
    moments = [moment for moment, _ in fired]
    assert all(0 <= moment % 1 < 0.9 for moment in moments), moments
    assert len({int(moment) for moment in moments}) == len(moments), f"twice in a second: {moments}"
