"""Names and places, and the forms that they must have."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from urllib.parse import unquote

from spark_apps.contract.errors import BadSetting

PARTITION_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
STAGES = ("ingest", "extract", "validate")
COMMAND_LINE = "@"
"""Stands for the Dag in the folder's name of a run from the command line that has a branch or a map index."""
ENVIRONMENT = "environment"
"""Where an executor finds a packed environment, in its working folder; see `spark_apps.pack`."""
ENVIRONMENT_PYTHON = f"./{ENVIRONMENT}/bin/python"


def check_partition(key: str) -> str:
    """`key` when it may name a partition; it becomes a folder, so nothing else may pass.

    Raises:
        BadSetting: the key is not of the form `PARTITION_PATTERN`.
    """
    if not re.fullmatch(PARTITION_PATTERN, key):
        raise BadSetting(
            "bad_partition",
            f"{key!r} is not a valid partition key.",
            "Use 1 to 64 letters, digits, dots, dashes or underscores, the first a letter or digit, "
            "for example 2026-11-22.",
        )
    return key


def is_image_id(text: str) -> bool:
    """Whether it may be an image_id: the sha256 of a file's bytes, as 64 hexadecimal digits."""
    return re.fullmatch("[0-9a-f]{64}", text) is not None


def path_safe(run_id: str) -> str:
    """A folder name for a run id (Airflow's hold `:` and `+`): readable, and different for different ids."""
    safe = re.sub(r"[^A-Za-z0-9_-]", "_", run_id)[:120]
    if safe == run_id:
        return safe
    return f"{safe}-{_digest(run_id)[:8]}"


def _part(name: str, longest: int) -> str:
    """A part of a folder's name: as `path_safe`, and never what another name with its digest would give."""
    safe = re.sub(r"[^A-Za-z0-9_-]", "_", name)[:longest]
    if safe == name and not re.search(r"-[0-9a-f]{16}$", name):
        return safe
    return f"{safe}-{_digest(name)[:16]}"


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()


@dataclass(frozen=True)
class RunKey:
    """Which run: Airflow's run ids are unique within a Dag only, and a mapped task has several jobs in one run.

    `dag_id` is empty for a run from the command line, `map_index` -1 for a task that is not mapped. `branch` tells
    apart several ingests or extracts in one run: empty where there is one of each, else their task ids, those of the
    extract after those of the ingest that it reads, with a slash between them.
    """

    run_id: str
    dag_id: str = ""
    map_index: int = -1
    branch: str = ""

    @property
    def folder(self) -> str:
        """The name of its folders: below `runs/<partition>`, and below `data/<partition>` of each table.

        A plain `path_safe(run_id)` for a run from the command line, and for all that were written before Dags were told
        apart; else the parts with a dot between them, which no part holds. 240 characters at most.
        """
        if not self.dag_id and self.map_index < 0 and not self.branch:
            return path_safe(self.run_id)
        parts = [_part(self.dag_id, 50) if self.dag_id else COMMAND_LINE, _part(self.run_id, 80)]
        parts += [f"map{self.map_index}"] if self.map_index >= 0 else []
        parts += [f"of-{_part(self.branch, 40)}"] if self.branch else []
        return ".".join(parts)

    def sources(self, stage: str) -> list[RunKey]:
        """Where an earlier stage of this run may have left its manifest, the nearest first: here, or where the mapping
        began. An ingest may also lie where the branch began: one serves all extracts, but an extract one validate."""
        branches = [self.branch]
        while branches[-1] and stage == "ingest":
            branches.append(branches[-1].rpartition("/")[0])
        indexes = [self.map_index, -1] if self.map_index >= 0 else [-1]
        return [RunKey(self.run_id, self.dag_id, index, branch) for index in indexes for branch in branches]

    def owns(self, folder: str) -> bool:
        """Whether a folder is of this Dag run, of whichever map index or branch."""
        own = RunKey(self.run_id, self.dag_id).folder
        return folder == own or (bool(self.dag_id) and folder.startswith(f"{own}."))


def is_of_dag(folder: str, dag_id: str) -> bool | None:
    """Whether the run with this folder is one of the Dag; None where the name does not tell: it is from the command
    line, or was written before Dags were told apart."""
    dag, dot, _ = folder.partition(".")
    return dag == _part(dag_id, 50) if dot and dag != COMMAND_LINE else None


def join(uri: str, *parts: str) -> str:
    """`uri` with path parts appended; works for plain paths and for `scheme://` URIs."""
    return "/".join([uri.rstrip("/"), *parts])


def run_folder(store: str, partition: str, run: str | RunKey) -> str:
    """Where one run keeps its manifests, its listing and its report; a plain run id is one from the command line."""
    return join(store, "runs", check_partition(partition), run_key(run).folder)


def run_key(run: str | RunKey) -> RunKey:
    """The run with this id and no Dag, or the run itself."""
    return RunKey(run) if isinstance(run, str) else run


def model_key(
    backbone: str,
    weights: str,
    precision: str,
    decode: str = "exact",
    layer: str = "",
    color: str = "stored",
    raw: str = "preview",
) -> str:
    """The readable name that features are published under, for example `resnet50-imagenet1k_v2-fp32`.

    What is as it was before there was a choice is not named, so a key means what it has always meant.
    """
    given = ((decode, "exact"), (color, "stored"), (raw, "preview"))
    chosen = (layer, *(value for value, default in given if value != default))
    parts = (backbone, weights, precision, *filter(None, chosen))
    return "-".join(re.sub(r"[^a-z0-9_.]+", "_", part.lower()) for part in parts)


SCHEME = "[A-Za-z][A-Za-z0-9+.-]*:"
"""What a location begins with that is not a path (RFC 3986, `scheme`)."""


def plain_scheme(location: str) -> str:
    """`location` with its scheme in lower case; `file:/x` and `file://localhost/x` as `file:///x` (RFC 8089)."""
    scheme, colon, rest = location.partition(":")
    if not re.fullmatch(SCHEME, scheme + colon):
        return location
    if scheme.lower() == "file":
        rest = re.sub("^//localhost(?=/)", "//", rest, flags=re.IGNORECASE)
        rest = rest if rest.startswith("//") or not rest.startswith("/") else f"//{rest}"
    return f"{scheme.lower()}:{rest}"


def check_location(name: str, location: str) -> str:
    """`location` without a trailing slash and with a `plain_scheme`, when it is an absolute path or a URI.

    Raises:
        BadSetting: it is empty or relative (executors may run in another folder), a file of another machine, or climbs
            with `..`, percent-encoded or not.
    """
    location = plain_scheme(location)
    if not re.match(r"(/|file:///[^/]|(?!file:)[a-z][a-z0-9+.-]*:///?[^/])", location):
        hint = "Write /folder, file:///folder or s3://bucket/folder."
        if location.startswith("file://"):
            message = f"{name} {location!r} is not a folder of this machine."
        else:
            message = f"{name} {location!r} is neither an absolute path nor a URI."
        raise BadSetting(f"bad_{name}", message, hint)
    if ".." in unquote(location).split("/"):
        raise BadSetting(f"bad_{name}", f"{name} {location!r} contains '..'.", "Write the location without '..'.")
    return location.rstrip("/") or "/"


def check_store(location: str) -> str:
    """`check_location` for a store, whose name must also mean one place to Arrow and to delta-rs.

    delta-rs decodes a name once more when it reads a commit than when it writes it, takes a backslash for a slash, and
    in a URI ends the path at a `#` or `?`. No way of writing such a name is right for both.

    Raises:
        BadSetting: as `check_location`, or the name has an escape such as `%2F`, a backslash, or on object storage
            one of `#` and `?`.
    """
    location = check_location("store", location)
    on_disk = location.startswith(("/", "file://"))
    name = unquote(location) if location.startswith("file://") else location
    if found := re.search(r"%[0-9A-Fa-f]{2}|\\" if on_disk else r"%[0-9A-Fa-f]{2}|[\\#?]", name):
        raise BadSetting(
            "bad_store",
            f"store {location!r} has {found[0]!r} in its name, which delta-rs takes for another place.",
            "Choose a store without it; blanks and letters of any language may stay.",
        )
    return location
