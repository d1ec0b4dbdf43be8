"""The dataclasses of settings: the one description of the commands.

Their field metadata gives the command line (`parse`), the arguments an operator passes (`to_args`), the bounds and
choices of a trigger form (`describe`), and the checks (`__post_init__`): a value refused by one is refused by all.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
import typing
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NoReturn, TypeVar

from spark_apps.contract import checks
from spark_apps.contract.errors import BadSetting
from spark_apps.contract.names import SCHEME, RunKey, check_location, check_partition, check_store, join, run_folder


def setting(
    help: str,
    default: Any = dataclasses.MISSING,
    *,
    choices: Sequence[str] | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
) -> Any:
    """A settings field that carries its own help text, choices and bounds (both bounds inclusive)."""
    metadata = {"help": help, "choices": choices, "minimum": minimum, "maximum": maximum}
    return field(default=default, metadata=metadata)


BACKBONES = (
    "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "wide_resnet50_2", "wide_resnet101_2",
    "resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d",
    "efficientnet_b0", "efficientnet_b1", "efficientnet_b2", "efficientnet_b3", "efficientnet_b4", "efficientnet_b5",
    "efficientnet_b6", "efficientnet_b7", "efficientnet_v2_s", "efficientnet_v2_m", "efficientnet_v2_l",
    "convnext_tiny", "convnext_small", "convnext_base", "convnext_large",
    "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large",
    "regnet_x_400mf", "regnet_x_800mf", "regnet_x_1_6gf", "regnet_x_3_2gf", "regnet_x_8gf", "regnet_x_16gf",
    "regnet_x_32gf", "regnet_y_400mf", "regnet_y_800mf", "regnet_y_1_6gf", "regnet_y_3_2gf", "regnet_y_8gf",
    "regnet_y_16gf", "regnet_y_32gf", "regnet_y_128gf",
    "vit_b_16", "vit_b_32", "vit_l_16", "vit_l_32", "vit_h_14",
    "swin_t", "swin_s", "swin_b", "swin_v2_t", "swin_v2_s", "swin_v2_b", "maxvit_t",
    "densenet121", "densenet161", "densenet169", "densenet201", "googlenet", "inception_v3",
    "mnasnet0_5", "mnasnet0_75", "mnasnet1_0", "mnasnet1_3",
    "shufflenet_v2_x0_5", "shufflenet_v2_x1_0", "shufflenet_v2_x1_5", "shufflenet_v2_x2_0",
    "alexnet", "squeezenet1_0", "squeezenet1_1",
    "vgg11", "vgg11_bn", "vgg13", "vgg13_bn", "vgg16", "vgg16_bn", "vgg19", "vgg19_bn",
)  # fmt: skip
"""torchvision's classification models, by its own names; `spark_apps/model/backbones.py` says more about each."""
LAYER_PATTERN = r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*"
WEIGHTS_HELP = (
    "IMAGENET1K_V1, IMAGENET1K_V2 or DEFAULT (torchvision's hub); keras-v1 (a pretrained ResNet-50 from the npm "
    "registry, for places without the hub); a path or URI of a state dict; random:SEED for tests."
)
EXTRACTORS = {
    "image": "",
    "text": "spark_apps.extractors.text:Text",
    "audio": "spark_apps.extractors.audio:Audio",
}
"""What is built in, and the class to load: none for `image`, whose model is chosen by settings of its own."""
EXTRACTOR_HELP = (
    "What makes a vector of a file: image (a backbone of torchvision), text, audio, or your own, as module:factory or "
    "/path/file.py:factory."
)
EXTRACTOR_PATTERN = r"[A-Za-z_][\w.]*:[A-Za-z_]\w*|/.+\.py:[A-Za-z_]\w*"
MAX_RETENTION_HOURS = 28 * 24
"""Four weeks: Delta keeps a table's log for 30 days, and without the log the age of a file is unknown."""
MAX_PIXELS, PHOTO_PIXELS = 4_000_000_000, 250_000_000
"""How far `--max-pixels` goes, and its default, which admits the 200 megapixels of today's telephones. What a photo
needs in memory and time is bounded by `guard`, whatever this limit says."""


@dataclass(frozen=True, kw_only=True)
class StoreSettings:
    """What every command needs. Raises BadSetting at construction for a value outside its choices or bounds."""

    store: str = setting("Folder or URI that holds the tables, for example /data/features or s3://bucket/features.")

    def __post_init__(self) -> None:
        kinds = typing.get_type_hints(type(self))
        for spec in dataclasses.fields(self):
            _check(spec, getattr(self, spec.name), kinds[spec.name])
        object.__setattr__(self, "store", check_store(self.store))


@dataclass(frozen=True, kw_only=True)
class JobSettings(StoreSettings, ABC):
    """What a job needs that leaves a manifest or an error behind."""

    run_id: str = setting("Id of this run; the same id continues the same run.")
    dag_id: str = setting("Dag of this run: another Dag may have a run of that id; empty on the command line.", "")
    map_index: int = setting(
        "Which of several mapped tasks of one run this is; -1: it is not mapped.", -1, minimum=-1, maximum=2**31
    )

    @property
    def run(self) -> RunKey:
        """Which run this is, as everything that is named after a run has it."""
        return RunKey(self.run_id, self.dag_id, self.map_index)

    @property
    @abstractmethod
    def folder(self) -> str:
        """Where the job leaves them, in the store."""


@dataclass(frozen=True, kw_only=True)
class Settings(JobSettings):
    """What every stage of the pipeline needs."""

    partition: str = setting("Partition key, usually the day: 2026-11-22.")
    branch: str = setting(
        "Name that tells several extracts of one run apart, for example two models of one ingest. validate needs the "
        "branch of its extract; an ingest without a branch serves them all.",
        "",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_partition(self.partition)

    @property
    def run(self) -> RunKey:
        """Which run this is, with its branch."""
        return RunKey(self.run_id, self.dag_id, self.map_index, self.branch)

    @property
    def folder(self) -> str:
        """The run's folder in the store."""
        return run_folder(self.store, self.partition, self.run)


@dataclass(frozen=True, kw_only=True)
class IngestSettings(Settings):
    """Settings of `ingest`: what to read and which files to refuse."""

    source: str = setting("Folder or URI of the photos; {partition} in it is replaced by the partition key.")
    pattern: str = setting(
        "Glob that a file's name must match, for example *.jpg; names starting with a dot never do.", "*"
    )
    exclude: str = setting(
        "Globs of files and folders that are not listed, separated by commas: drafts,*_thumb.jpg,raw/*.dng; "
        "one with a slash is matched against the path below the source. Files that systems leave behind, such as "
        "Thumbs.db, are never listed.",
        "",
    )
    max_pixels: int = setting(
        "Photos with more pixels are quarantined before they are decoded.", PHOTO_PIXELS, minimum=1, maximum=MAX_PIXELS
    )
    max_bytes: int = setting(
        "Files with more bytes are quarantined without being read.", 256 * 2**20, minimum=1, maximum=2**30
    )
    on_empty: str = setting("What to do when a partition has no files.", "fail", choices=("fail", "skip"))
    extractor: str = setting(
        "The same as for extract. With image, a file whose header is not that of an image is quarantined; with "
        "another extractor, headers are not checked.",
        "image",
    )
    within: str = setting(
        "Folders, one a line, that no link in the source may lead out of; empty: links are followed anywhere.",
        "",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_extractor(self.extractor)
        source = check_location("source", self.source.replace("{partition}", self.partition))
        object.__setattr__(self, "source", source)


@dataclass(frozen=True, kw_only=True)
class ExtractSettings(Settings):
    """Settings of `extract`: which extractor, which model, and how to run it."""

    extractor: str = setting(EXTRACTOR_HELP, "image")
    model: str = setting("Backbone.", "resnet50", choices=BACKBONES)
    weights: str = setting(WEIGHTS_HELP, "DEFAULT")
    weights_sha256: str = setting("Expected sha256 of the weights file, 64 hex digits; empty to skip the check.", "")
    layer: str = setting(
        "An earlier layer to take the features from, averaged over the photo, for example layer3 of a resnet50. Empty: "
        "the input of the classifier. An unknown name is refused with the list of those that the model has.",
        "",
    )
    engine: str = setting(
        "What runs the model; auto takes OpenVINO on a CPU when it is installed.",
        "auto",
        choices=("auto", "torch", "openvino"),
    )
    precision: str = setting(
        "Number format of the computation; int8 is calibrated once in a store, on its first partition at int8.",
        "fp32",
        choices=("fp32", "bf16", "int8"),
    )
    device: str = setting(
        "Where the model runs; auto takes a GPU when there is one.", "auto", choices=("auto", "cpu", "cuda")
    )
    decode: str = setting(
        "exact equals torchvision; scaled decodes a JPEG at 1/2, 1/4 or 1/8 while that keeps twice the pixels needed: "
        "several times faster for photos of many megapixels. The vectors differ a little and have their own model key.",
        "exact",
        choices=("exact", "scaled"),
    )
    resources: str = setting(
        "Resources per Spark task: narrow, one core; wide, all cores of its executor; gpu, one GPU and its share of "
        "the cores. auto is gpu where the model runs on one, else narrow.",
        "auto",
        choices=("auto", "narrow", "wide", "gpu"),
    )
    batch_size: int = setting("Photos per model call.", 16, minimum=1, maximum=1024)
    lookback: int = setting(
        "How many earlier partitions to look through for vectors to reuse.", 7, minimum=0, maximum=366
    )
    recompute: bool = setting("Compute every photo again, even where its vector is already known.", False)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_extractor(self.extractor)
        if not self.weights:
            raise BadSetting("bad_weights", "weights is empty.", f"Use {WEIGHTS_HELP}")
        if self.layer and not re.fullmatch(LAYER_PATTERN, self.layer):
            raise BadSetting(
                "bad_layer", f"{self.layer!r} is not a valid layer.", "Write its dotted name, for example layer3."
            )
        if self.weights_sha256 and not re.fullmatch(r"[0-9a-fA-F]{64}", self.weights_sha256):
            raise BadSetting("bad_weights_sha256", f"{self.weights_sha256!r} is not a sha256.", "Give 64 hex digits.")
        if self.engine == "openvino" and self.device == "cuda":
            raise BadSetting(
                "contradiction", "engine openvino does not run on device cuda.", "Use engine torch or auto."
            )
        if self.precision == "int8" and (self.engine == "torch" or self.device == "cuda"):
            raise BadSetting(
                "contradiction",
                "precision int8 runs on engine openvino, on a CPU.",
                "Use engine auto and device auto, or precision bf16.",
            )
        if self.resources == "gpu" and "cpu" in (self.device, "cpu" if self.engine == "openvino" else ""):
            raise BadSetting(
                "contradiction", "resources gpu needs the model to run on one.", "Use device cuda, or resources wide."
            )
        if self.weights.lower() == "keras-v1" and self.model != "resnet50":
            raise BadSetting(
                "contradiction", f"weights keras-v1 are a resnet50, not a {self.model}.", "Set model to resnet50."
            )


@dataclass(frozen=True, kw_only=True)
class ValidateSettings(Settings):
    """Settings of `validate`: the limits a run must keep to be published."""

    max_failed_fraction: float = setting(
        "Largest share of listed files that may be quarantined (0 to 1).", 0.1, minimum=0, maximum=1
    )
    max_drift: float = setting(
        "Largest drift of the features against recent partitions (0 to 1); 1 never fails.", 0.5, minimum=0, maximum=1
    )
    max_identical_fraction: float = setting(
        "Largest share of distinct photos that may have the vector of another photo with other pixels (0 to 1).",
        0.5,
        minimum=0,
        maximum=1,
    )
    max_constant: int = setting(
        "Most vectors that may be zero or the same value throughout.", 0, minimum=0, maximum=2**31
    )
    min_features: int = setting("Fewest vectors that a partition must have.", 1, minimum=1, maximum=2**31)
    min_row_ratio: float = setting(
        "Fewest vectors, as a share of the median of recent partitions (0 to 1). At 0.5, half to twice as many pass.",
        0.5,
        minimum=0,
        maximum=1,
    )
    min_cosine: float = setting(
        "Smallest cosine between a vector and its recomputation (0 to 1); 0: the limit of the precision or extractor.",
        0.0,
        minimum=0,
        maximum=1,
    )
    check_levels: str = setting(
        "Checks with another level than usual (error, warning or off): drift=warning,row_count=off. A check that is "
        f"off is not run. {', '.join(checks.FIXED[:-1])} and {checks.FIXED[-1]} are always errors.",
        "",
    )
    history: int = setting(
        "How many earlier partitions drift and row count are compared with.", 7, minimum=0, maximum=366
    )
    recheck: int = setting(
        "How many photos, drawn at random, are computed again with plain torchvision; eight times as many for int8 and "
        "scaled decoding; 0 for none.",
        8,
        minimum=0,
        maximum=1000,
    )
    no_publish: bool = setting("Check and report, but leave the published data as it is.", False)

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.levels(self.check_levels)

    @property
    def levels(self) -> dict[str, str]:
        """The level of every check."""
        return checks.levels(self.check_levels)


@dataclass(frozen=True, kw_only=True)
class MaintainSettings(JobSettings):
    """Settings of `maintain`: how long replaced data is kept, and what is done at all."""

    run_id: str = setting("Id of this maintenance; empty: the present moment.", "")
    retention_hours: int = setting(
        "Retention: for so many hours, replaced data and the files of failed runs are kept; undo and time travel reach "
        "back so far. Files that a running run may need are kept whatever this says.",
        168,
        minimum=1,
        maximum=MAX_RETENTION_HOURS,
    )
    no_compact: bool = setting("Do not merge small files.", False)
    dry_run: bool = setting("Dry run: print the files that would be deleted, and change nothing.", False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.run_id:
            object.__setattr__(self, "run_id", datetime.now(UTC).strftime("%Y-%m-%dT%H%M%SZ"))

    @property
    def folder(self) -> str:
        """This maintenance's folder in the store."""
        return join(self.store, "maintenance", self.run.folder)


@dataclass(frozen=True, kw_only=True)
class UndoSettings(StoreSettings):
    """Settings of `undo`: whose publication is taken back, and how far."""

    partition: str = setting("Partition key, usually the day: 2026-11-22.")
    model: str = setting("What the features are published under, for example resnet50-imagenet1k_v2-fp32.")
    to_version: int = setting(
        "Version of the table features to put back, as --list shows it; 0: the one before.", 0, minimum=0, maximum=2**53
    )
    list: bool = setting("Show what has been published, and change nothing.", False)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_partition(self.partition)


SETTINGS: dict[str, type[Settings]] = {
    "ingest": IngestSettings,
    "extract": ExtractSettings,
    "validate": ValidateSettings,
}

AnySettings = TypeVar("AnySettings", bound=StoreSettings)


def check_extractor(name: str) -> None:
    """Raises BadSetting when `name` is neither a registered extractor nor of the form `EXTRACTOR_PATTERN`."""
    if name not in EXTRACTORS and not re.fullmatch(EXTRACTOR_PATTERN, name):
        raise BadSetting(
            "bad_extractor",
            f"{name!r} is not a valid extractor.",
            f"Choose {', '.join(EXTRACTORS)}, or your own: package.module:factory or /path/file.py:factory.",
        )


def describe(cls: type[StoreSettings], name: str) -> dict[str, Any]:
    """Help, choices, bounds, type and default of one setting, for whoever draws a form."""
    spec = next(spec for spec in dataclasses.fields(cls) if spec.name == name)
    default = None if spec.default is dataclasses.MISSING else spec.default
    return {**spec.metadata, "type": typing.get_type_hints(cls)[name], "default": default}


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
        if values.get(name) and not re.match(SCHEME, values[name]):
            values[name] = os.path.abspath(os.path.expanduser(values[name]))
    return cls(**values)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise BadSetting("bad_argument", message[0].upper() + message[1:] + ".", "See --help.")


def out_of_range(value: Any, choices: Sequence[str] | None, minimum: float | None, maximum: float | None) -> str:
    """What to choose instead of a value that is none of the choices or beyond a bound; empty when it is allowed."""
    if choices and value not in choices:
        return f"Choose one of: {', '.join(choices)}."
    if minimum is not None and maximum is not None and not minimum <= value <= maximum:
        return f"Choose a number from {minimum} to {maximum}."
    if minimum is not None and not value >= minimum:
        return f"Choose a number of at least {minimum}."
    return ""


KINDS = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}


def _check(spec: dataclasses.Field[Any], value: Any, kind: type) -> None:
    limits = spec.metadata
    name = spec.name.replace("_", "-")
    fits = isinstance(value, (int, float) if kind is float else kind)
    if not fits or (isinstance(value, bool) and kind is not bool):  # to Python, a truth value is a whole number
        raise BadSetting(f"bad_{spec.name}", f"{name} {value!r} is not {KINDS[kind]}.", limits["help"])
    if spec.default is dataclasses.MISSING and not value:
        raise BadSetting(f"bad_{spec.name}", f"{name} is empty.", limits["help"])
    if better := out_of_range(value, limits["choices"], limits["minimum"], limits["maximum"]):
        wrong = f"{value!r} is not a valid {name}." if limits["choices"] else f"{name} {value} is out of bounds."
        raise BadSetting(f"bad_{spec.name}", wrong, better)
