"""What lies in a folder, on any filesystem that Arrow knows.

Arrow's of Google knows no folders but those that an object stands for: it lists what lies in one without the folders
there, and all that lies below without those in between. Here they are worked out from the names.
"""

from __future__ import annotations

from collections.abc import Iterable

from pyarrow import fs


def inside(filesystem: fs.FileSystem, folder: str) -> list[fs.FileInfo]:
    """The files and folders in `folder`; nothing where it is missing. On Google's all that lies below is listed for it.

    Raises OSError.
    """
    if filesystem.type_name != "gcs":
        return list(filesystem.get_file_info(fs.FileSelector(folder, allow_not_found=True)))
    begin = len(folder.rstrip("/")) + 1
    return [info for info in below(filesystem, folder) if "/" not in info.path[begin:].rstrip("/")]


def below(filesystem: fs.FileSystem, folder: str) -> list[fs.FileInfo]:
    """The files and folders below `folder`, however deep; nothing where it is missing. Raises OSError."""
    found = list(filesystem.get_file_info(fs.FileSelector(folder, recursive=True, allow_not_found=True)))
    if filesystem.type_name == "gcs":
        known = {info.path.rstrip("/") for info in found if info.type == fs.FileType.Directory}
        paths = _between(folder.rstrip("/"), (info.path for info in found)) - known
        found += [fs.FileInfo(path, fs.FileType.Directory) for path in sorted(paths)]
    return found


def _between(folder: str, paths: Iterable[str]) -> set[str]:
    """The folders between `folder` and what lies below it."""
    seen: set[str] = set()
    for path in paths:
        above = path.rstrip("/").rpartition("/")[0]
        while len(above) > len(folder) and above not in seen:
            seen.add(above)
            above = above.rpartition("/")[0]
    return seen
