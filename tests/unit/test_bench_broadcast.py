"""The table of `benchmarks.broadcast`: medians over the rounds, a line for each measure."""

from __future__ import annotations

from benchmarks import broadcast


def test_the_table_shows_the_medians_over_the_rounds() -> None:
    rounds = [{name: float(place * factor) for place, name in enumerate(broadcast.COLUMNS, 1)} for factor in (1, 10, 2)]
    lines = broadcast.table({"broadcast": broadcast.summary(rounds)}).splitlines()
    assert lines[0] == "|  | broadcast_extractor |"
    assert lines[2] == "| sent once, MB | 2.0 |"
    assert lines[-1] == "| processor time of a further image, ms | 12.0 |"
