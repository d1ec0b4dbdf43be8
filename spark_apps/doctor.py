"""Finds what a function must not take to Spark's workers: `python -m spark_apps.doctor module:function`.

Spark pickles a function with all that it reaches: the variables it closes over, the globals it names, its defaults,
the object whose method it is. One SparkSession, lock or open file among them, and the query ends in a page of stack
trace. `explain_closure` walks the same way and names the culprit by its path, `extract → self.spark`, with the fix.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import sys
from typing import Any

from spark_apps.closures.findings import Finding as Finding
from spark_apps.closures.findings import check_closure as check_closure
from spark_apps.closures.findings import explain_closure as explain_closure
from spark_apps.contract import BadSetting, ExitCode


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit status: 0 innocent, 1 a culprit was found, 2 there is no such function."""
    parser = argparse.ArgumentParser(
        prog="spark_apps.doctor",
        description="Says whether Spark can send a function to its workers, and if not, what keeps it.",
        epilog="The module is imported, and its functions are judged as those of a script given to spark-submit, whose "
        "globals travel with them. Exit status: 0 it can be sent; 1 it cannot, with the path to each culprit; 2 there "
        "is no such function.",
    )
    parser.add_argument("function", metavar="module:function", help="such as my_job:extract or my_job:vectorizer.run")
    asked = parser.parse_args(argv).function
    try:
        module, fn = _find(asked)
    except BadSetting as error:
        print(error, file=sys.stderr)
        return ExitCode.BAD_SETTING
    findings = explain_closure(fn, by_value=[module])
    for finding in findings:
        print(finding if finding.fatal else f"note: {finding}")
    if isinstance(fn, type):
        print(f"note: {asked} is a class; what its objects hold is seen only on an object, or a method of one.")
    if any(finding.fatal for finding in findings):
        return 1
    print(f"{asked} can be sent to Spark's workers.")
    return 0


def _find(asked: str) -> tuple[str, Any]:
    """The module's name, and what is asked for in it. Raises BadSetting."""
    module, _, name = asked.partition(":")
    if not module or not name or "/" in module or module.endswith(".py"):
        message = f"{asked!r} is not of the form module:function."
        raise BadSetting("bad_function", message, "For example my_job:extract, for extract in my_job.py.")
    try:
        found: Any = importlib.import_module(module)
    except (Exception, SystemExit) as error:
        raise BadSetting(
            "cannot_import",
            f"The module {module} cannot be imported ({type(error).__name__}: {error}).",
            f"Run this from where `python -c 'import {module}'` works.",
        ) from error
    for part in name.split("."):
        if not hasattr(found, part):
            near = difflib.get_close_matches(part, dir(found), 1)
            hint = f"Did you mean {near[0]}?" if near else "Name what stands at the module's top level."
            raise BadSetting("no_such_function", f"There is no {name} in {module}.", hint)
        found = getattr(found, part)
    return module, found


if __name__ == "__main__":
    sys.exit(main())
