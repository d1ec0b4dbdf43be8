"""Files among photos that are not photos: what systems and tools leave behind. No listing shows them.

The rules are documented in docs/operations.md, "Which files are listed".
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

FILES = (
    *("thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon\r"),
    *("_success", "_metadata", "_common_metadata"),
)
"""Names in lower case: pictures of a folder (Windows), its icon (macOS), what Spark and Hadoop leave."""
FILE_GLOBS = ("*_$folder$", "_committed_*", "_started_*", "~$*")
"""Folder markers of Hadoop on object stores, marks of Databricks' commits, locks of Office."""
FOLDERS = (
    *("@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "@tmp", "@sharebin"),  # Synology, QNAP
    *("lost+found", "__macosx", "$recycle.bin", "recycler", "system volume information", "_temporary", "_delta_log"),
    *("_spark_metadata", "network trash folder", "temporary items"),
)
"""Names in lower case: what network storage, disks, archives, bins and writers of tables keep for themselves."""


class Ignored:
    """Which names are not listed: hidden ones, those above, and those that `exclude` names.

    `exclude`: globs, separated by commas. One without a slash is held against the name of each file and folder, one
    with a slash against the path below the source.
    """

    def __init__(self, exclude: str = "") -> None:
        self._globs = [glob.strip().strip("/") for glob in exclude.split(",") if glob.strip().strip("/")]

    def folder(self, path: Sequence[str]) -> bool:
        """Whether nothing below a folder is listed; `path`: its names, from the source down."""
        name = path[-1].lower()
        return self._hidden(path[-1]) or name in FOLDERS or self._excluded(path)

    def file(self, path: Sequence[str], folders: bool = True) -> bool:
        """Whether a file is not listed. `folders`: look at the names of its folders, too."""
        name = path[-1].lower()
        if self._hidden(path[-1]) or name in FILES or any(fnmatchcase(name, glob) for glob in FILE_GLOBS):
            return True
        above = (path[: depth + 1] for depth in range(len(path) - 1)) if folders else ()
        return self._excluded(path) or any(self.folder(part) for part in above)

    def _hidden(self, name: str) -> bool:
        return name.startswith(".") and name not in (".", "..")  # those are keys of an object store, and lost if hidden

    def _excluded(self, path: Sequence[str]) -> bool:
        return any(fnmatchcase("/".join(path) if "/" in glob else path[-1], glob) for glob in self._globs)
