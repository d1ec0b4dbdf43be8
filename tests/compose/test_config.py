"""docker-compose.yaml and `make env` belong together, and the file keeps what docs/compose.md promises.

Needs the compose plugin and no engine: nothing is built or started.
"""

from __future__ import annotations

import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.compose.stack import REPOSITORY, Stack, plugin_missing

COMPOSE_FILE = (REPOSITORY / "docker-compose.yaml").read_text()
ENV = REPOSITORY / "deploy" / "env.py"
PROFILES = ((), ("history",), ("s3",), ("triggerer",), ("history", "s3", "triggerer"))
ONCE = {"airflow-init", "s3-init"}
"""Services that do their work and end."""
MAY_KNOW = {
    "postgres": {"POSTGRES_PASSWORD"},
    "spark-master": {"SPARK_AUTH_SECRET"},
    "spark-worker": {"SPARK_AUTH_SECRET"},
    "history-server": {"SPARK_AUTH_SECRET"},
}
"""The secrets of the services that are no part of Airflow."""

Services = dict[str, dict[str, Any]]


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    if reason := plugin_missing():
        pytest.skip(reason)
    return Stack(tmp_path)


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """The stack as `make env` leaves it."""
    if reason := plugin_missing():
        pytest.skip(reason)
    return Stack(tmp_path_factory.mktemp("shipped"))


@pytest.fixture(scope="module")
def services(shipped: Stack) -> Services:
    """Every service, as compose understands it."""
    return all_services(shipped)


# --- make env ---------------------------------------------------------------------------------------------------------


def write_env(file: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(ENV), str(file)], capture_output=True, text=True, timeout=60)


def values(file: Path, comments: bool = False) -> dict[str, str]:
    lines = (line.removeprefix("#") if comments else line for line in file.read_text().splitlines())
    return dict(line.split("=", 1) for line in lines if re.match(r"[A-Z0-9_]+=", line))


def test_make_env_sets_all_that_is_required_and_comments_on_nothing_unknown(tmp_path: Path) -> None:
    assert write_env(tmp_path / ".env").returncode == 0
    required = set(re.findall(r"\$\{(\w+):\?", COMPOSE_FILE))
    known = set(re.findall(r"\$\{(\w+)", COMPOSE_FILE)) | set(re.findall(r"^  (AWS_\w+):$", COMPOSE_FILE, re.MULTILINE))
    assert required and required == set(values(tmp_path / ".env"))
    assert set(values(tmp_path / ".env", comments=True)) <= known | {"COMPOSE_PROFILES"}


def test_make_env_writes_secrets_that_nobody_else_has_or_may_read(tmp_path: Path) -> None:
    write_env(tmp_path / "one")
    write_env(tmp_path / "other")
    one, other = values(tmp_path / "one"), values(tmp_path / "other")
    assert not set(one.values()) & set(other.values())
    assert len(set(one.values())) == len(one)
    assert min(map(len, one.values())) >= 20
    assert stat.S_IMODE((tmp_path / "one").stat().st_mode) == 0o600


def test_make_env_leaves_a_file_that_is_there_alone(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("MINE=1\n")
    done = write_env(tmp_path / ".env")
    assert done.returncode == 1
    assert "is there already" in done.stdout
    assert (tmp_path / ".env").read_text() == "MINE=1\n"


def test_no_secret_has_a_default() -> None:
    uses = re.findall(r"\$\{(\w*(?:PASSWORD|KEY|SECRET)\w*)(:[-?]?)", COMPOSE_FILE)
    assert {name for name, default in uses if default != ":?"} == {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
    assert not re.findall(r"\$\{AWS_\w+:-[^}]", COMPOSE_FILE)


def test_git_ignores_the_secrets() -> None:
    assert "/.env" in (REPOSITORY / ".gitignore").read_text().splitlines()


# --- docker-compose.yaml ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profiles", PROFILES, ids="+".join)
def test_the_file_is_valid_with_each_profile(profiles: tuple[str, ...], stack: Stack) -> None:
    options = [option for profile in profiles for option in ("--profile", profile)]
    assert stack.compose(*options, "config", "--quiet") == ""


def test_without_secrets_the_remedy_is_named(stack: Stack) -> None:
    stack.env_file.write_text("")
    done = stack.try_compose("config", "--quiet")
    assert done.returncode != 0
    assert "make env" in done.stderr


def test_every_service_that_stays_is_watched_bounded_and_started_again(services: Services) -> None:
    for name, service in services.items():
        assert service["deploy"]["resources"]["limits"]["memory"], name
        assert service["logging"]["options"]["max-size"], name
        if name not in ONCE:
            assert service["healthcheck"]["test"], name
            assert service["restart"] == "unless-stopped", name


def test_ports_are_on_loopback_unless_asked_otherwise(services: Services, stack: Stack) -> None:
    published = {name: service["ports"] for name, service in services.items() if service.get("ports")}
    assert set(published) == {"api-server", "history-server"}
    assert {port["host_ip"] for ports in published.values() for port in ports} == {"127.0.0.1"}
    stack.set(AIRFLOW_BIND="0.0.0.0", AIRFLOW_PORT="9999")
    (port,) = all_services(stack)["api-server"]["ports"]
    assert (port["host_ip"], port["published"]) == ("0.0.0.0", "9999")


def test_secrets_are_in_the_environment_of_those_who_need_them_and_nowhere_else(
    services: Services, shipped: Stack
) -> None:
    for name, service in services.items():
        rest = {key: value for key, value in service.items() if key != "environment"}
        known = {secret for secret, value in shipped.secrets.items() if value in str(service.get("environment"))}
        assert known <= MAY_KNOW.get(name, known), name
        assert not [secret for secret, value in shipped.secrets.items() if value in str(rest)], name
    assert set(shipped.secrets) >= {"AIRFLOW_ADMIN_PASSWORD", "POSTGRES_PASSWORD", "SPARK_AUTH_SECRET"}


def test_photos_are_decoded_where_neither_database_nor_airflow_can_be_reached(services: Services) -> None:
    networks = {name: set(service["networks"]) for name, service in services.items()}
    assert networks["spark-worker"] == {"spark"}
    assert networks["postgres"] == networks["api-server"] == networks["triggerer"] == {"airflow"}
    assert networks["scheduler"] == {"airflow", "spark"}


def test_a_folder_of_photos_takes_the_place_of_the_volume(stack: Stack) -> None:
    stack.set(LANDING="/srv/photos")
    services = all_services(stack)
    for name in ("scheduler", "spark-worker"):
        mounts = {mount["target"]: mount for mount in services[name]["volumes"]}
        assert mounts["/data/landing"]["source"] == "/srv/photos"
        assert mounts["/data/landing"]["read_only"]


def test_more_packages_go_into_the_image(stack: Stack) -> None:
    assert all_services(stack)["airflow-init"]["build"]["args"]["PACKAGES"] == ""
    stack.set(PACKAGES="one two>=1.2")
    assert all_services(stack)["airflow-init"]["build"]["args"]["PACKAGES"] == "one two>=1.2"


def all_services(stack: Stack) -> Services:
    found: Services = stack.config("history", "s3", "triggerer")["services"]
    return found
