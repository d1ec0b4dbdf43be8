"""Whether there is a model of a name: asked of a child process, since only the model's own library knows."""

from __future__ import annotations

import logging
import subprocess
import sys

from image_features import JOBS
from spark_apps import contract

SECONDS = 120
"""For a library to be imported and asked."""

log = logging.getLogger(__name__)


def check(model: str) -> None:
    """Refuses a model that its source does not have. Where the library is not installed beside Airflow, extract says so
    where it is.

    Raises:
        BadSetting: there is none; the sentence names the nearest.
    """
    if contract.model_source(model) == "torchvision" or contract.is_at_a_place(model):
        return
    command = [sys.executable, str(JOBS / "models.py"), "--check", model]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, cwd="/", check=False)
    except subprocess.TimeoutExpired:
        log.warning("Whether there is a model %s is not known: nothing answered for %d s.", model, SECONDS)
        return
    said = done.stderr.strip().rpartition("\n")[2]
    if done.returncode == contract.ExitCode.BAD_SETTING:
        raise contract.BadSetting("bad_model", said)
    if done.returncode or said:
        log.warning("Whether there is a model %s is not known here: %s", model, said)
