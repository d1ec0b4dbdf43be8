"""The partition of a run: what the user wrote, else the UTC day of the data interval, else a clear refusal."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from image_features.partition import resolve

from spark_apps.contract import BadSetting

MIDNIGHT = datetime(2026, 11, 21, tzinfo=UTC)


def test_what_the_user_wrote_wins_over_the_data_interval() -> None:
    assert resolve("batch-7", MIDNIGHT) == "batch-7"


def test_spaces_around_a_typed_partition_do_no_harm() -> None:
    assert resolve(" 2026-11-20 ", None) == "2026-11-20"


@pytest.mark.parametrize("empty", [None, "", "  "])
def test_without_one_it_is_the_day_the_interval_starts(empty: str | None) -> None:
    assert resolve(empty, MIDNIGHT) == "2026-11-21"


def test_the_day_is_the_one_in_utc() -> None:
    late_in_new_york = datetime(2026, 11, 20, 22, tzinfo=timezone(timedelta(hours=-5)))
    assert resolve(None, late_in_new_york) == "2026-11-21"


def test_a_run_with_neither_is_refused_and_told_both_ways_out() -> None:
    with pytest.raises(BadSetting) as refused:
        resolve(None, None)
    assert refused.value.code == "no_partition"
    assert "trigger form" in str(refused.value) and "logical date" in str(refused.value)


@pytest.mark.parametrize("key", ["../../x", "a/b", ".hidden", "2026 11 22", "x" * 65, "é"])
def test_a_key_that_could_leave_its_folder_is_refused(key: str) -> None:
    with pytest.raises(BadSetting, match="is not a partition key"):
        resolve(key, MIDNIGHT)
