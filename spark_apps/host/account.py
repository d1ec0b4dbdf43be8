"""A process whose user has no entry in the system's list of users, as containers start them: a name and a home for it.

Python's getpass and Path.home end in an error there, the JVM has `?` for both, and Hadoop's login fails.
"""

from __future__ import annotations

import json
import os
import stat
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any


def is_listed() -> bool:
    """Whether the system knows a name for the user of this process."""
    try:
        import pwd
    except ImportError:  # Windows
        return True
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        return False
    return True


def name() -> str:
    """What a user without an entry is called: by the environment, else by its number."""
    known = ("HADOOP_USER_NAME", "SPARK_USER", "LOGNAME", "USER")
    return next((os.environ[key] for key in known if os.environ.get(key)), f"uid-{os.getuid()}")


def home() -> str:
    """The user's home; for a user without an entry and a home to write to, its own folder among temporary files."""
    found = os.path.expanduser("~")
    return found if is_listed() or (os.path.isabs(found) and os.access(found, os.W_OK | os.X_OK)) else _own_folder()


def lacking() -> dict[str, str]:
    """The variables that the environment of a user without an entry lacks: for a process, its children and their JVM,
    a spark-submit among them."""
    if is_listed():
        return {}
    options = os.environ.get("SPARK_SUBMIT_OPTS", "")
    found = {key: name() for key in ("LOGNAME", "USER", "SPARK_USER") if not os.environ.get(key)} | {"HOME": home()}
    if "-Duser.home=" not in options:
        found["SPARK_SUBMIT_OPTS"] = f'{options} "-Duser.home={home()}" "-Duser.name={name()}"'.strip()
    return found


def complete() -> None:
    """Gives this process `lacking`."""
    os.environ.update(lacking())


def log_in(jvm: Any) -> None:
    """Tells Hadoop in the JVM who the user is, where its own login would look for an entry and fail."""
    if not is_listed():
        groups = jvm.org.apache.hadoop.security.UserGroupInformation
        groups.setLoginUser(groups.createRemoteUser(name()))


@lru_cache(maxsize=1)
def _own_folder() -> str:
    """The same for every process of the user, unless somebody else was there first."""
    folder = Path(tempfile.gettempdir(), f"image-features-{os.getuid()}")
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
    except OSError:
        return tempfile.mkdtemp(prefix="image-features-")
    ours = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o022
    return str(folder) if ours else tempfile.mkdtemp(prefix="image-features-")


if __name__ == "__main__":  # for the Airflow side, which knows the contract and the catalog alone
    print(json.dumps(lacking()))
