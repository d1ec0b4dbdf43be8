"""The command line of a job, made from the dataclass of its settings."""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
import typing
from collections.abc import Sequence
from typing import NoReturn, TypeVar

from spark_apps.contract.errors import BadSetting
from spark_apps.contract.names import SCHEME
from spark_apps.contract.settings import StoreSettings

AnySettings = TypeVar("AnySettings", bound=StoreSettings)


def to_args(settings: StoreSettings) -> list[str]:
    """The command-line arguments that `parse` turns back into `settings`; all strings."""
    args: list[str] = []
    for spec in dataclasses.fields(settings):
        value, flag = getattr(settings, spec.name), "--" + spec.name.replace("_", "-")
        if isinstance(value, bool):
            args += [flag] if value else []
        elif value != spec.default:
            text = str(value)
            args += [f"{flag}={text}"] if text.startswith("-") else [flag, text]  # argparse takes a dash for a flag
    return args


def parse(cls: type[AnySettings], argv: Sequence[str], prog: str, description: str) -> AnySettings:
    """Settings from command-line arguments. A relative path means the caller's working folder, as in any command.

    Raises:
        BadSetting: an argument is missing, unknown, or outside its choices or bounds.
        SystemExit: `--help` was asked for.
    """
    parser = _Parser(
        prog=prog,
        description=description,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    types = typing.get_type_hints(cls)
    for spec in sorted(dataclasses.fields(cls), key=lambda spec: spec.default is not dataclasses.MISSING):
        flag, kind = "--" + spec.name.replace("_", "-"), types[spec.name]
        if kind is bool:
            parser.add_argument(flag, action="store_true", help=spec.metadata["help"])
            continue
        required = spec.default is dataclasses.MISSING
        parser.add_argument(
            flag,
            type=kind,
            required=required,
            default=argparse.SUPPRESS if required else spec.default,
            help=spec.metadata["help"],
            metavar="{" + "|".join(spec.metadata["choices"]) + "}" if spec.metadata["choices"] else None,
        )
    values = vars(parser.parse_args(argv))
    for name in ("store", "source"):
        if values.get(name):
            values[name] = from_here(values[name])
    if re.fullmatch(r"[^:]+\.(onnx|xml)", values.get("model", "")):
        values["model"] = os.path.abspath(os.path.expanduser(values["model"]))
    return cls(**values)


def from_here(location: str) -> str:
    """A location as an argument: a relative path means the working folder, `~` the user's, and a URI itself."""
    return location if re.match(SCHEME, location) else os.path.abspath(os.path.expanduser(location))


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise BadSetting("bad_argument", message[0].upper() + message[1:] + ".", "See --help.")
