"""Every argument of SparkSubmitOperator is kept or refused, and wherever the driver runs it can be ended."""

from __future__ import annotations

import functools
import importlib.util
import inspect
import json
import os
import shutil
import subprocess
import sys
import threading
import tomllib
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.apache.spark.hooks import spark_submit
from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException
from airflow.sdk import DAG, Param
from image_features import assets, connections, deployments, form, processes, spark_hook, submission
from image_features.operators import IngestOperator, MaintainOperator
from packaging.specifiers import SpecifierSet

from tests.airflow.test_operators import (  # noqa: F401  # the fixture
    RUNS,
    FakeSpark,
    context,
    end_while_it_runs,
    operator,
    spark,
)

REPO = Path(__file__).resolve().parents[2]
KEPT: dict[str, tuple[Any, Any]] = {
    "conf": ({"spark.a": "b"}, "spark.a=b"),
    "conn_id": ("spark_default", "local[2]"),
    "files": ("/f", "/f"),
    "py_files": ("/p.py", "/p.py"),
    "archives": ("/a.zip", "/a.zip"),
    "driver_class_path": ("/c", "/c"),
    "jars": ("/j.jar", "/j.jar"),
    "packages": ("g:a:1", "g:a:1"),
    "exclude_packages": ("g:b", "g:b"),
    "repositories": ("/repository", "/repository"),
    "total_executor_cores": (3, "3"),
    "executor_cores": (2, "2"),
    "executor_memory": ("2g", "2g"),
    "driver_memory": ("3g", "3g"),
    "keytab": ("/keytab", "/keytab"),
    "principal": ("somebody", "somebody"),
    "proxy_user": ("proxy", "proxy"),
    "name": ("own", "own"),
    "num_executors": (4, "4"),
    "verbose": (True, "--verbose"),
    "properties_file": ("/p.conf", "/p.conf"),
    "yarn_queue": ("nightly", "nightly"),
    "deploy_mode": ("client", "client"),
}
"""Argument → a value, and what of it is on the command line."""
OTHERWISE = {
    "env_vars",
    "spark_binary",
    "use_krb5ccache",
    "post_submit_commands",
    "status_poll_interval",
    "yarn_rm_auth",
}
"""Kept, and not seen on the command line of a local Spark."""
LINEAGE = {"openlineage_inject_parent_job_info", "openlineage_inject_transport_info"}


def arguments_of_the_provider() -> set[str]:
    found = inspect.signature(SparkSubmitOperator.__init__).parameters.values()
    return {one.name for one in found if one.kind is one.KEYWORD_ONLY}


def test_each_argument_of_the_provider_s_operator_is_decided_on() -> None:
    assert arguments_of_the_provider() == {*KEPT, *OTHERWISE, *LINEAGE, *submission.REFUSED}


@pytest.mark.parametrize("name", KEPT)
def test_what_is_kept_reaches_spark_submit(name: str, spark: FakeSpark) -> None:  # noqa: F811
    value, shown = KEPT[name]
    spark.succeeds("ingest")
    operator("ingest", **{name: value}).execute(context())
    arguments, _ = spark.called
    assert any(shown in argument for argument in arguments), arguments


@pytest.mark.parametrize("name", submission.REFUSED)
def test_what_is_refused_says_why_where_the_dag_is_parsed(name: str) -> None:
    with pytest.raises(ValueError, match=rf"IngestOperator does not take the argument {name}\. "):
        operator("ingest", **{name: True})
    operator("ingest", **{name: None})


@pytest.mark.parametrize("name", submission.REFUSED)
def test_what_is_refused_is_so_among_the_defaults_of_the_dag(name: str, spark: FakeSpark) -> None:  # noqa: F811
    with DAG("image_features", params=form.params(), default_args={name: True, "name": "theirs"}, schedule=None):
        with pytest.raises(ValueError, match=rf"IngestOperator does not take the argument {name}\. "):
            IngestOperator(task_id="refused")
        task = IngestOperator(task_id="ingest", **{name: None})
    spark.succeeds("ingest")
    task.execute(context())
    arguments = spark.called[0]
    assert not {"True", "--class"} & set(arguments), "the default has not got through"
    assert arguments[arguments.index("--name") + 1] == "theirs"


def test_variables_are_added_to_an_environment_that_has_no_secrets(
    spark: FakeSpark,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "very-private")
    spark.succeeds("ingest")
    operator("ingest", env_vars={"OWN": 1, "PYSPARK_PYTHON": "/own/python", processes.MARK: "none"}).execute(context())
    _, environment = spark.called
    assert (environment["OWN"], environment["PYSPARK_PYTHON"]) == ("1", "/own/python")
    assert "very-private" not in environment.values()
    assert environment[processes.MARK].endswith("/ingest")


@pytest.mark.parametrize("inject", sorted(LINEAGE))
def test_lineage_is_injected_as_by_the_provider(
    inject: str,
    spark: FakeSpark,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    function = f"inject_{inject.removeprefix('openlineage_inject_').replace('_job_info', '_job_information')}"
    function = function.replace("transport_info", "transport_information") + "_into_spark_properties"
    monkeypatch.setattr(
        f"image_features.operators.{function}", lambda conf, run: {**conf, "spark.openlineage.x": run["run_id"]}
    )
    spark.succeeds("ingest")
    run = context()
    operator("ingest", **{inject: True}).execute(run)
    assert f"spark.openlineage.x={run['run_id']}" in spark.called[0]


def test_a_param_of_the_dag_s_own_is_no_concern_of_the_maintenance(spark: FakeSpark) -> None:  # noqa: F811
    with DAG("theirs", params={"colour": "red", "dry_run": Param(True), "store": "/elsewhere"}, schedule=None) as dag:
        task = MaintainOperator(task_id="maintain")
    run = {**context(), "params": {"colour": "red", "dry_run": True, "store": "/elsewhere"}}
    job = task.job_settings(run)
    assert (job.dry_run, job.store) == (True, str(spark.store))
    assert dag.params


def test_a_param_of_the_wrong_type_is_a_sentence(spark: FakeSpark) -> None:  # noqa: F811
    with DAG("theirs", params={"partition": "d1", "history": "long"}, schedule=None):
        task = IngestOperator(task_id="ingest")
    with pytest.raises(AirflowFailException, match="history"):
        task.execute({**context(), "params": {"partition": "d1", "history": "long"}})


# --- another version of the provider ----------------------------------------------------------------------------------


def load_spark_hook() -> None:
    """Our module anew, as the next parse of a Dag would; the one that is loaded stays as it is."""
    spec = importlib.util.spec_from_file_location("spark_hook_again", spark_hook.__file__)
    assert spec is not None and spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))


def says_what_is_supported(message: str, name: str) -> bool:
    return f"spark{spark_hook.SUPPORTED}, and {spark_hook.provider_version}, which" in message and name in message


@pytest.mark.parametrize("name", spark_hook.OF_THE_CLASS)
def test_a_provider_without_one_of_the_methods_is_refused_where_the_dag_is_parsed(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_spark_hook()
    for kind in spark_submit.SparkSubmitHook.__mro__:
        if name in vars(kind):
            monkeypatch.delattr(kind, name)
    with pytest.raises(ImportError) as refused:
        load_spark_hook()
    assert says_what_is_supported(str(refused.value), name)


@pytest.mark.parametrize("name", spark_hook.ARGUMENTS)
def test_a_provider_without_one_of_the_arguments_is_refused_where_the_dag_is_parsed(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in SparkSubmitOperator.__mro__:
        if "__init__" not in vars(kind) or kind is object:
            continue
        initial = kind.__init__  # type: ignore[misc]
        signature = inspect.signature(initial)
        others = [one for one in signature.parameters.values() if one.name != name]
        monkeypatch.setattr(initial, "__signature__", signature.replace(parameters=others), raising=False)
    with pytest.raises(ImportError) as refused:
        load_spark_hook()
    assert says_what_is_supported(str(refused.value), name)


@pytest.mark.parametrize("name", spark_hook.OF_AN_INSTANCE)
def test_a_provider_without_one_of_the_private_parts_is_a_sentence_and_no_retry(
    name: str,
    spark: FakeSpark,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    init = spark_submit.SparkSubmitHook.__init__

    def without(hook: Any, **arguments: Any) -> None:
        init(hook, **arguments)
        del vars(hook)[name]

    monkeypatch.setattr(spark_submit.SparkSubmitHook, "__init__", functools.wraps(init)(without))
    with pytest.raises(AirflowFailException) as refused:
        operator("ingest").execute(context())
    assert says_what_is_supported(str(refused.value), name)
    assert not spark.was_called


@pytest.mark.parametrize(
    "name", sorted({*inspect.signature(spark_submit.SparkSubmitHook).parameters} - {"application_args"})
)
def test_an_argument_that_the_provider_keeps_elsewhere_is_never_lost_in_silence(
    name: str,
    spark: FakeSpark,  # noqa: F811
) -> None:
    task = operator("ingest")
    for kept in (name, f"_{name}"):
        vars(task).pop(kept, None)
    with pytest.raises((AirflowFailException, AttributeError)) as refused:
        task.execute(context())
    assert name in str(refused.value)
    assert not spark.was_called


def test_the_provider_s_versions_are_those_of_the_package() -> None:
    extras = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (asked,) = [one for one in extras["airflow"] if one.startswith("apache-airflow-providers-apache-spark")]
    assert asked.endswith(f"spark{spark_hook.SUPPORTED}")
    assert SpecifierSet(spark_hook.SUPPORTED).contains(spark_hook.provider_version)


# --- the driver on a cluster ------------------------------------------------------------------------------------------


class ResourceManager:
    """YARN's, as far as it takes the request to end an application."""

    def __init__(self) -> None:
        asked: list[str] = []
        self.asked = asked

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                asked.append((self.path, json.loads(body)))
                self.send_response(202)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def on_yarn(monkeypatch: pytest.MonkeyPatch, **extra: str) -> None:
    connection = {"conn_type": "spark", "host": "yarn", "extra": {"deploy-mode": "cluster", **extra}}
    monkeypatch.setenv("AIRFLOW_CONN_SPARK_DEFAULT", json.dumps(connection))


def end_once_the_driver_is_known(spark: FakeSpark) -> None:  # noqa: F811
    task: Any = operator("extract")
    end_while_it_runs(task, spark, lambda: task._hook._yarn_application_id or task._hook._kubernetes_driver_pod)


def test_ending_a_task_ends_its_driver_on_yarn(spark: FakeSpark, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    yarn = ResourceManager()
    on_yarn(monkeypatch, yarn_resourcemanager_webapp_address=yarn.address)
    spark.runs(RUNS, says="INFO impl.YarnClientImpl: Submitted application application_1700000000000_0007")
    end_once_the_driver_is_known(spark)
    yarn.server.shutdown()
    assert yarn.asked == [("/ws/v1/cluster/apps/application_1700000000000_0007/state", {"state": "KILLED"})]


def test_yarn_without_an_address_is_warned_of_and_ended_as_far_as_possible(
    spark: FakeSpark,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    on_yarn(monkeypatch)
    spark.runs(RUNS, says="INFO impl.YarnClientImpl: Submitted application application_1700000000000_0007")
    end_once_the_driver_is_known(spark)
    said = caplog.text + capsys.readouterr().out
    assert "yarn_resourcemanager_webapp_address" in said
    assert "was not told to end" in said, "there is no command yarn here"


@pytest.mark.parametrize("mode", ["client", "cluster"])
def test_keys_of_a_connection_that_a_driver_on_a_cluster_does_not_get_are_warned_of(
    mode: str,
    spark: FakeSpark,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    on_yarn(monkeypatch, **{"deploy-mode": mode})
    monkeypatch.setenv("AIRFLOW_CONN_KEYS", '{"conn_type": "aws", "login": "its-key", "password": "its-secret"}')
    spark.succeeds("extract")
    operator("extract", storage_conn_id="keys").execute(context())
    said = caplog.text + capsys.readouterr().out
    assert ("the driver does not get" in said and "AWS_SECRET_ACCESS_KEY" in said) == (mode == "cluster")
    arguments, environment = spark.called
    assert environment["AWS_SECRET_ACCESS_KEY"] == "its-secret", "this task's own spark-submit has them"
    assert "its-secret" not in said and "its-secret" not in str(arguments)


# --- Kubernetes -------------------------------------------------------------------------------------------------------


@pytest.fixture
def kubernetes(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The provider's client, as far as the hook needs it; the pods that it was asked to delete."""
    deleted: list[Any] = []
    client = SimpleNamespace(
        get_kube_client=lambda: SimpleNamespace(delete_namespaced_pod=lambda *pod, **_: deleted.append(pod)),
        ApiException=RuntimeError,
    )
    monkeypatch.setattr(spark_submit, "kube_client", client, raising=False)
    monkeypatch.setattr(connections, "_has_kubernetes", lambda: True)
    models = SimpleNamespace(client=SimpleNamespace(V1DeleteOptions=lambda: None))
    monkeypatch.setitem(sys.modules, "kubernetes", models)
    return deleted


def on_kubernetes(monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    extra = {"deploy-mode": mode, "namespace": "nightly"}
    connection = {"conn_type": "spark", "host": "k8s://https://host", "port": 443, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_SPARK_DEFAULT", json.dumps(connection))


@pytest.mark.parametrize("mode", ["client", "cluster"])
def test_the_command_line_for_kubernetes(
    mode: str,
    kubernetes: list[Any],
    spark: FakeSpark,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    on_kubernetes(monkeypatch, mode)
    monkeypatch.setenv("AIRFLOW__IMAGE_FEATURES__ENVIRONMENT", "s3a://bucket/environment.tar.gz")
    monkeypatch.delenv("PYSPARK_DRIVER_PYTHON", raising=False)
    spark.does("print('Exit code: 0', flush=True)")
    with pytest.raises(AirflowException, match=r"left no manifest|exit code"):
        operator("extract", env_vars={"OWN": "1"}).execute(context())
    arguments, environment = spark.called
    here = mode == "client"
    assert arguments[:2] == ["--master", "k8s://https://host:443"]
    assert arguments[arguments.index("--deploy-mode") + 1] == mode
    assert "spark.kubernetes.namespace=nightly" in arguments
    assert "spark.kubernetes.driverEnv.OWN=1" in arguments
    assert arguments[arguments.index("--archives") + 1] == "s3a://bucket/environment.tar.gz#environment"
    assert any(argument.endswith(".zip") for argument in arguments), "this project's code"
    assert (f"spark.pyspark.driver.python={sys.executable}" in arguments) == here
    assert ("PYSPARK_DRIVER_PYTHON" in environment) == here


def test_ending_a_task_deletes_its_driver_s_pod(
    kubernetes: list[Any],
    spark: FakeSpark,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    on_kubernetes(monkeypatch, "cluster")
    spark.runs(RUNS, says="LoggingPodStatusWatcherImpl: \t pod name: image-features-extract-driver")
    end_once_the_driver_is_known(spark)
    assert kubernetes == [("image-features-extract-driver", "nightly")]


def test_a_cluster_that_does_not_answer_is_warned_of(
    kubernetes: list[Any],
    spark: FakeSpark,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def unreachable() -> None:
        raise ConnectionError("https://host:443 does not answer")

    monkeypatch.setattr(spark_submit.kube_client, "get_kube_client", unreachable)
    on_kubernetes(monkeypatch, "cluster")
    spark.runs(RUNS, says="LoggingPodStatusWatcherImpl: \t pod name: image-features-extract-driver")
    end_once_the_driver_is_known(spark)
    said = caplog.text + capsys.readouterr().out
    assert "may run on: https://host:443 does not answer" in said
    assert not kubernetes


def test_kubernetes_without_its_provider_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    on_kubernetes(monkeypatch, "cluster")
    with pytest.raises(AirflowFailException, match="Install apache-airflow-providers-cncf-kubernetes"):
        operator("ingest").execute(context())


@pytest.mark.parametrize("connection", ["k8s://host:443", {"conn_type": "spark", "host": "k8s://https://host:443"}])
def test_kubernetes_without_its_provider_is_a_sentence_however_it_is_written(
    connection: str | dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    value = connection if isinstance(connection, str) else json.dumps(connection)
    monkeypatch.setenv("AIRFLOW_CONN_SPARK_DEFAULT", value)
    with pytest.raises(AirflowFailException, match="Install apache-airflow-providers-cncf-kubernetes"):
        operator("ingest").execute(context())


@pytest.mark.parametrize("host", ["k8s-node", "yarn-node", "old.k8s.example"])
@pytest.mark.parametrize("written", ["uri", "fields", "whole"])
def test_the_scheme_says_what_a_master_is_and_not_its_host(
    host: str,
    written: str,
    spark: FakeSpark,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connection = {
        "uri": f"spark://{host}:7077",
        "fields": json.dumps({"conn_type": "spark", "host": host, "port": 7077}),
        "whole": json.dumps({"conn_type": "spark", "host": f"spark://{host}:7077"}),
    }
    monkeypatch.setenv("AIRFLOW_CONN_SPARK_DEFAULT", connection[written])
    spark.succeeds("ingest")
    operator("ingest", env_vars={"OWN": "1"}).execute(context())
    arguments, environment = spark.called
    assert arguments[:2] == ["--master", f"spark://{host}:7077"]
    assert not [word for word in arguments if "Env.OWN" in word], "settings of Kubernetes or YARN"
    assert environment["OWN"] == "1"


# --- paths ------------------------------------------------------------------------------------------------------------

ODD = ["a b", "caf\u00e9", "a#b", "a?b", "a%2Fb", "100%", "\u65e5\u672c", "it's", 'say "x"', "a&b=c"]


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("place", ["/data/{}/store", "s3://bucket/{}/store"])
def test_any_store_has_an_asset_and_no_two_the_same(place: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__IMAGE_FEATURES__STORE", place.format(name))
    uri = assets.image_features().uri
    assert uri.isascii()
    assert uri.startswith(place.partition("{")[0] if "://" in place else "file:///data/")
    monkeypatch.setenv("AIRFLOW__IMAGE_FEATURES__STORE", place.format(name + "x"))
    assert assets.image_features().uri != uri


def test_a_plain_store_keeps_its_asset(monkeypatch: pytest.MonkeyPatch) -> None:
    for store, uri in (
        ("/data/store", "file:///data/store/features"),
        ("file:/data/store", "file:///data/store/features"),
        ("FILE://localhost/data/store", "file:///data/store/features"),
        ("s3://b/s", "s3://b/s/features"),
    ):
        monkeypatch.setenv("AIRFLOW__IMAGE_FEATURES__STORE", store)
        assert assets.image_features().uri == uri


@pytest.mark.parametrize("locale", ["C", "POSIX", ""])
def test_a_job_takes_file_names_for_utf8_whatever_the_locale(
    locale: str,
    spark: FakeSpark,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("LC_ALL", "LC_CTYPE", "LANG"):
        monkeypatch.delenv(name, raising=False)
    if locale:
        monkeypatch.setenv("LC_ALL", locale)
    spark.succeeds("ingest")
    operator("ingest").execute(context())
    assert spark.called[1]["LC_ALL"] == "C.UTF-8"


def test_spark_is_found_from_a_python_whose_path_has_a_blank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real spark-submit, beside a link to this Python."""
    python = tmp_path / "co py" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.delenv("SPARK_HOME", raising=False)
    environment = submission.environment(deployments.Local("spark_default", "local[1]"), "task", {}, {})
    where = Path(form.__file__).parents[2] / ".venv" / "bin" / "spark-submit"
    found = subprocess.run([where, "--version"], env=environment, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr


SUBMIT = """
import subprocess, sys
from image_features import deployments, submission
environment = submission.environment(deployments.Local("spark_default", "local[1]"), "task", {}, {})
submit, script = sys.argv[1:]
sys.exit(subprocess.run([submit, "--master", "local[1]", script], env=environment).returncode)
"""


@pytest.mark.parametrize("home", ["", "/"])
def test_spark_submit_runs_for_a_user_without_an_entry(home: str, tmp_path: Path) -> None:
    """With the environment that a task gives it; by itself it ends before Python starts, for want of a home."""
    become = ["setpriv", "--reuid", "54321", "--regid", "54321", "--clear-groups"]
    become += ["--inh-caps", "+dac_override", "--ambient-caps", "+dac_override"]  # so that it may read this Python
    if os.getuid() or not shutil.which("setpriv") or subprocess.run([*become, "true"]).returncode:
        pytest.skip("only root can be somebody else")
    root = Path(form.__file__).parents[2]
    script = tmp_path / "script.py"
    script.write_text("import getpass; print('ran as', getpass.getuser())")
    python = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{root}:{root}/plugins", "AIRFLOW_HOME": str(tmp_path)}
    python |= {"LC_ALL": "C.UTF-8", **{name: value for name, value in os.environ.items() if name == "SPARK_HOME"}}
    submit = str(Path(sys.executable).with_name("spark-submit"))
    bare = subprocess.run(
        [*become, submit, "--master", "local[1]", str(script)],
        env={**python, **({"HOME": home} if home else {})},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert bare.returncode != 0 and "basedir must be absolute" in bare.stderr, "Spark now does without our help"
    done = subprocess.run(
        [*become, sys.executable, "-c", SUBMIT, submit, str(script)],
        env={**python, **({"HOME": home} if home else {})},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "ran as uid-54321" in done.stdout
