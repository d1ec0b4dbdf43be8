"""Airflow for the tests in this folder: a home of its own, set before anything imports Airflow."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

REPO = Path(__file__).resolve().parents[2]

assert "airflow.configuration" not in sys.modules, "Airflow was imported before its home was set"
for name in [name for name in os.environ if name.startswith(("AIRFLOW__", "AIRFLOW_CONN_"))]:
    del os.environ[name]
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="airflow-tests-")
atexit.register(shutil.rmtree, os.environ["AIRFLOW_HOME"], ignore_errors=True)
os.environ["AIRFLOW__CORE__DAGS_FOLDER"] = str(REPO / "dags")
os.environ["AIRFLOW__CORE__PLUGINS_FOLDER"] = str(REPO / "plugins")
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"


@pytest.fixture(autouse=True)
def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store, a source and a local Spark, as a user would configure them."""
    monkeypatch.setenv("AIRFLOW__IMAGE_FEATURES__STORE", str(tmp_path / "store"))
    monkeypatch.setenv("AIRFLOW__IMAGE_FEATURES__SOURCE", "/photos/{partition}")
    monkeypatch.setenv("AIRFLOW_CONN_SPARK_DEFAULT", '{"conn_type": "spark", "host": "local[2]"}')


@pytest.fixture(scope="session")
def airflow_app() -> Any:
    """Airflow's api-server with this repository's plugins, in this process; its database knows one Dag."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS", "somebody:viewer")
        from airflow.api_fastapi.app import create_app
        from airflow.utils.db import initdb

        initdb()
        app = create_app(apps="core")
        from tests.airflow.web import enter_dag, pipeline

        enter_dag(pipeline("image_features"))
        return app


@pytest.fixture
def clients(airflow_app: Any) -> Callable[[str], Any]:
    """A function from a kind of caller to a client: anonymous, bad cookie, without rights, viewer."""
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
    from fastapi.testclient import TestClient

    def client(caller: str) -> TestClient:
        found = TestClient(airflow_app, raise_server_exceptions=False)
        if caller == "bad cookie":
            found.cookies.set("_token", "rubbish")
        elif caller != "anonymous":
            user = SimpleAuthManagerUser(username=caller, role=None if caller == "without rights" else caller)
            found.cookies.set("_token", get_auth_manager().generate_jwt(user))
        return found

    return client
