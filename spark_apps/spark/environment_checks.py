"""What a job needs of its environment, looked at before the JVM starts: each fault is a sentence, not a trace."""

from __future__ import annotations

import errno
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

from spark_apps.contract import BadSetting
from spark_apps.host import account, cores

PROBE_BYTES = 2**20
"""Written to a temporary folder to see whether it has space; the package's own code takes less."""
JAVA_SECONDS = 60
NOT_EMPTY = ("SPARK_HOME", "PYSPARK_PYTHON", "PYSPARK_SUBMIT_ARGS")
"""An empty variable is as good as none, except to pyspark for these."""
JAVA_OPTIONS = ("PYSPARK_SUBMIT_ARGS", "SPARK_SUBMIT_OPTS", "JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS")


def check_process() -> None:
    """What every job needs, with Spark or without: a user with a home, a temporary folder, a number of threads.

    Raises:
        BadSetting: the temporary folder cannot be used, or OMP_NUM_THREADS is not a number.
    """
    if folder := os.environ.get("TMPDIR"):
        _check_space(os.path.abspath(folder), "TMPDIR", "Set TMPDIR to another one, or unset it.")
    try:
        folder = tempfile.gettempdir()
    except OSError as error:
        message = f"No temporary folder can be used: {error.strerror}."
        raise BadSetting("tmpdir_unusable", message, "Set TMPDIR to a folder with space.") from error
    _check_space(folder, "The temporary folder", "Set TMPDIR to another one.")
    cores.threads(1)
    account.complete()


def check_before_jvm() -> None:
    """What Spark's JVM needs to start, where spark-submit has not started it already.

    Raises:
        BadSetting: it would not start, or not with the settings that were meant.
    """
    for name in NOT_EMPTY:
        if os.environ.get(name) == "":
            del os.environ[name]
    _check_submit_args()
    _check_spark_home()
    _check_conf_dir()
    _check_java()
    if not any("java.io.tmpdir" in os.environ.get(name, "") for name in JAVA_OPTIONS):
        hint = "Name another one for the JVM: SPARK_SUBMIT_OPTS=-Djava.io.tmpdir=/path."
        _check_space("/tmp", "The JVM's temporary folder", hint)  # what a JVM takes on Linux, whatever TMPDIR says


def jvm_not_started(error: Exception) -> BadSetting:
    """What remains to be said where every check has passed, and Spark's JVM ends all the same."""
    return BadSetting(
        "jvm_not_started",
        f"Spark's JVM does not start; what it said stands above ({str(error).splitlines()[0][:200]}).",
        "Correct the setting that it names: it reads spark-defaults.conf, PYSPARK_SUBMIT_ARGS, SPARK_SUBMIT_OPTS and "
        "JAVA_TOOL_OPTIONS.",
    )


def check_local_dirs(local_dir: str | None) -> None:
    """The folders that Spark spills to: of the environment, else its setting `spark.local.dir`. One usable is enough.

    Raises:
        BadSetting: none is, and Spark would end its JVM without a word to Python.
    """
    name = "SPARK_LOCAL_DIRS" if os.environ.get("SPARK_LOCAL_DIRS") else "spark.local.dir"
    folders = [folder.strip() for folder in (os.environ.get("SPARK_LOCAL_DIRS") or local_dir or "").split(",")]
    problems = {folder: _no_folder_here(folder) for folder in folders if folder}
    if problems and all(problems.values()):
        told = "; ".join(f"{folder}: {problem}" for folder, problem in problems.items())
        raise BadSetting("local_dirs_unusable", f"{name} has no folder that can be used ({told}).", f"Correct {name}.")


def check_worker_python() -> None:
    """The Python of the workers on this machine. Raises BadSetting."""
    python = os.environ.get("PYSPARK_PYTHON", "")
    if python and not shutil.which(python):
        problem = "it may not be executed" if os.path.exists(python) else "there is no such program"
        message = f"PYSPARK_PYTHON is {python}: {problem}."
        raise BadSetting("worker_python_missing", message, "Set it to a Python that can be started, or unset it.")


def _check_submit_args() -> None:
    """pyspark hands them to spark-submit, for which `pyspark-shell` stands where a script would stand."""
    arguments = os.environ.get("PYSPARK_SUBMIT_ARGS")
    if arguments is None:
        return
    try:
        problem = "" if "pyspark-shell" in shlex.split(arguments) else "lacks the word pyspark-shell"
    except ValueError as error:
        problem = f"cannot be read ({error})"
    if problem:
        message = f"PYSPARK_SUBMIT_ARGS is {arguments!r} and {problem}."
        raise BadSetting("bad_submit_args", message, "End it with pyspark-shell, or unset it.")


def _check_spark_home() -> None:
    home = os.environ.get("SPARK_HOME")
    if home and (problem := _no_program_at(Path(home), "spark-submit")):
        hint = "Set it to the folder of a Spark, or unset it to use the one in the package pyspark."
        raise BadSetting("no_spark", f"SPARK_HOME is {home}: {problem}.", hint)


def _check_conf_dir() -> None:
    """Spark takes a folder that is not there for one without settings, and would run with its defaults."""
    folder = os.environ.get("SPARK_CONF_DIR")
    if folder and not (os.path.isdir(folder) and os.access(folder, os.R_OK | os.X_OK)):
        problem = "there is no such folder that can be read"
        hint = "Set it to the folder of spark-defaults.conf, or unset it."
        raise BadSetting("no_spark_conf", f"SPARK_CONF_DIR is {folder}: {problem}.", hint)


def _check_java() -> None:
    """The Java that Spark's scripts take: of JAVA_HOME, else the first on the PATH."""
    if _has_script_of_settings():  # which may set JAVA_HOME
        return
    needed = _needed_java()
    hint = f"Install Java {needed} or newer, and set JAVA_HOME to its folder"
    home = os.environ.get("JAVA_HOME")
    if home and (problem := _no_program_at(Path(home), "java")):
        raise BadSetting("no_java", f"JAVA_HOME is {home}: {problem}.", f"{hint}, or unset it to use java of the PATH.")
    java = str(Path(home, "bin", "java")) if home else shutil.which("java")
    if not java:
        raise BadSetting("no_java", "Spark needs Java, and there is no java on the PATH.", f"{hint}.")
    found = _java_version(java, f"{hint}.")
    if found and found < needed:
        import pyspark

        message = f"{java} is Java {found}, and Spark {pyspark.__version__} needs {needed} or newer."
        raise BadSetting("java_too_old", message, f"{hint}.")


def _needed_java() -> int:
    """Source: Spark's documentation, "Downloading"."""
    import pyspark

    return 17 if int(pyspark.__version__.split(".")[0]) >= 4 else 8


def _has_script_of_settings() -> bool:
    folders = [os.environ.get("SPARK_CONF_DIR"), os.path.join(os.environ.get("SPARK_HOME") or "", "conf")]
    return any(os.path.exists(os.path.join(folder, "spark-env.sh")) for folder in folders if folder)


def _java_version(java: str, hint: str) -> int | None:
    """Its major version, 8 for 1.8; None where it tells none. Starts it only if no file beside it says. Raises
    BadSetting."""
    try:
        text = Path(os.path.realpath(java)).parents[1].joinpath("release").read_text(errors="replace")
    except OSError:
        text = ""
    if not (found := re.search(r'JAVA_VERSION="(?:1\.)?(\d+)', text)):
        try:
            asked = [java, "-version"]
            done = subprocess.run(asked, capture_output=True, text=True, errors="replace", timeout=JAVA_SECONDS)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise BadSetting("no_java", f"{java} cannot be started: {error}.", hint) from error
        said = (done.stderr + done.stdout).strip()
        if done.returncode:
            why = said.splitlines()[0] if said else "it says nothing"
            raise BadSetting("no_java", f"{java} ends with exit code {done.returncode} ({why}).", hint)
        found = re.search(r'version "(?:1\.)?(\d+)', said)
    return int(found[1]) if found else None


def _no_program_at(home: Path, program: str) -> str:
    """What is wrong with `home/bin/program`; empty if nothing is."""
    path = home / "bin" / program
    try:
        home.stat()
        if not home.is_dir():
            return "it is not a folder"
        path.stat()
    except OSError as error:
        return "there is no such folder" if not home.exists() else f"bin/{program} is not there ({error.strerror})"
    return "" if path.is_file() and os.access(path, os.X_OK) else f"bin/{program} may not be executed"


def _check_space(folder: str, name: str, hint: str) -> None:
    """Raises BadSetting unless `PROBE_BYTES` can be written to a temporary folder."""
    try:
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            left = PROBE_BYTES
            while left:  # a nearly full disk takes a part, and refuses the next
                left -= file.write(bytes(left))
    except OSError as error:
        no_space = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise BadSetting(
            "tmpdir_full" if no_space else "tmpdir_unusable",
            f"{name} {folder} cannot be used: {error.strerror or error}.",
            f"Free some space there. {hint}" if no_space else hint,
        ) from error


def _no_folder_here(folder: str) -> str:
    """Why Spark could not make folders in `folder`, which it creates if it can; empty if it could."""
    path = Path(os.path.abspath(folder))
    while not os.path.lexists(path):
        path = path.parent
    if not path.is_dir():
        return "it is not a folder" if str(path) == os.path.abspath(folder) else f"{path} is not a folder"
    try:
        os.rmdir(tempfile.mkdtemp(dir=path))
    except OSError as error:
        return error.strerror or str(error)
    return ""
