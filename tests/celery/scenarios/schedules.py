"""A schedule of the settings that sends a Celery task."""

from conftest import FOLDER, lines, ours, until

pytestmark = ours


def test_it_fires_each_second():
    path = FOLDER / "fired"
    # The first ones may have waited for a worker that was not ready.
    fired = until(lambda: len(lines(path)) >= 8 and lines(path)[-4:], "it has not fired eight times")
    assert {text for _, text in fired} == {"of a schedule"}
    moments = [moment for moment, _ in fired]
    assert all(moment % 1 < 0.9 for moment in moments), moments
    assert len({int(moment) for moment in moments}) == len(moments), f"twice in a second: {moments}"
