"""What a failed job means to Airflow: fail at once, skip, or retry, always with the job's own words."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, AirflowSkipException

from spark_apps import contract
from spark_apps.contract import ExitCode

MEANING: dict[int, type[AirflowException]] = {
    ExitCode.BAD_SETTING: AirflowFailException,
    ExitCode.QUALITY_FAILED: AirflowFailException,
    ExitCode.NOTHING_TO_DO: AirflowSkipException,
}
"""Exit code → exception; every other code is worth a retry."""


def exception(stage: str, exit_code: int, record: dict[str, Any] | None, log_tail: str) -> AirflowException:
    """The exception for a job that ended with `exit_code`.

    `record` is the job's `error.json`, None when it left none: then the last lines of Spark's log have to do.
    """
    if record is None:
        how = f"was ended by signal {-exit_code}" if exit_code < 0 else f"ended with exit code {exit_code}"
        return MEANING.get(exit_code, AirflowException)(f"{stage} {how}.{log_tail}")
    error = contract.error_from_record(record)
    return MEANING.get(error.exit_code, AirflowException)(f"{stage} failed: {error}")
