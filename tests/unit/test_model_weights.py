"""Weights: every way to name them, every way they can be wrong, and that nothing in a file is ever executed."""

from __future__ import annotations

import io
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

from spark_apps.contract import BadSetting, JobError, ModelSettings, Unreachable
from spark_apps.model import backbones, cache, fetching, prepare, state_dicts, weights
from spark_apps.model.random_weights import random_state_dict
from spark_apps.model.torchvision_import import torchvision
from spark_apps.model.weights import resolve

RESNET18 = backbones.get("resnet18")


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGE_FEATURES_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return random_state_dict(RESNET18, 5)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str, list[str]]]:
    """A folder, the address of a server that serves it, and the paths it was asked for."""
    folder = tmp_path / "served"
    folder.mkdir()
    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def log_request(self, *args: Any) -> None:
            asked.append(self.path)

        def log_error(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_address[1]}", asked
    server.shutdown()
    server.server_close()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes torchvision's catalogue say that resnet18's weights are at another address."""

    def moved_to(url: str) -> None:
        models = torchvision().models
        entry = models.ResNet18_Weights.IMAGENET1K_V1
        moved = models.WeightsEnum(
            "ResNet18_Weights",
            {
                "IMAGENET1K_V1": models.Weights(url, entry.transforms, entry.meta),
                "IMAGENET1K_V2": models.Weights(url, partial(entry.transforms, resize_size=232), entry.meta),
                "DEFAULT": models.Weights(url, partial(entry.transforms, resize_size=232), entry.meta),
            },
        )
        monkeypatch.setattr(models, "get_model_weights", lambda name: moved)

    return moved_to


@pytest.fixture
def closed_port() -> Iterator[int]:
    """Where nobody listens and nobody else can."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        yield one.getsockname()[1]


def spec(name: object, sha256: str = "", backbone: str = "resnet18") -> ModelSettings:
    return ModelSettings(model=backbone, weights=str(name), weights_sha256=sha256)


def failure(kind: type[JobError], call: Callable[[], object]) -> JobError:
    with pytest.raises(kind) as caught:
        call()
    assert caught.value.hint
    return caught.value


def same(model: torch.nn.Module, state: dict[str, torch.Tensor]) -> bool:
    found = model.state_dict()
    return set(found) == set(state) and all(torch.equal(found[key], value) for key, value in state.items())


# --- random -----------------------------------------------------------------------------------------------------------


def test_random_weights_follow_their_seed_and_carry_no_categories() -> None:
    first, again, other = (resolve(spec(name)) for name in ("random:5", "RANDOM:5", "random:6"))
    assert first.sha256 == again.sha256 != other.sha256
    assert (first.name, first.label, first.knows_imagenet) == ("random:5", "random_5", False)
    # Pinned, because the promise is: the same on every machine.
    assert first.sha256 == "2004f1a7871a4cca10868699c37414d815142203e5c09a5b083b48053c19885d"


@pytest.mark.parametrize("name", ["random:", "random:x", "random:-1", "random:1.5"])
def test_random_weights_need_a_seed(name: str) -> None:
    assert failure(BadSetting, lambda: resolve(spec(name))).code == "bad_weights"


# --- files ------------------------------------------------------------------------------------------------------------


def test_file_is_used_where_it_lies_and_named_by_stem_and_hash(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    path = tmp_path / "my photos+v3.pth"
    torch.save(state, path)
    sha256 = cache.sha256(path)
    for name in (path, f"file://{tmp_path}/my%20photos+v3.pth"):
        found = resolve(spec(name, sha256.upper()))
        assert found.sha256 == sha256
        assert same(found.model(), state)
    assert resolve(spec(path)).label == f"my photos+v3_{sha256[:8]}"
    assert prepare(spec(path)).key == f"resnet18-my_photos_v3_{sha256[:8]}-fp32"
    assert not list((tmp_path / "cache" / "weights").iterdir())


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {f"module.{key}": value for key, value in state.items()},
        lambda state: {f"_orig_mod.module.{key}": value for key, value in state.items()},
        lambda state: {"state_dict": state, "epoch": 3, "optimizer": {"lr": 0.1}},
        lambda state: {"model": {f"module.{key}": value for key, value in state.items()}},
        lambda state: {key: value for key, value in state.items() if "num_batches_tracked" not in key},
    ],
    ids=["data-parallel", "compiled", "lightning", "torchvision-reference", "before-2018"],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_checkpoints_of_training_scripts_are_understood(
    tmp_path: Path, state: dict[str, torch.Tensor], wrap: Callable[[Any], Any], zipped: bool
) -> None:
    torch.save(wrap(state), tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    model = resolve(spec(tmp_path / "w.pth")).model()
    assert same(model, {**model.state_dict(), **{k: v for k, v in state.items() if "num_batches" not in k}})


def test_number_of_classes_follows_the_weights(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    for classes in (7, 1000):
        torch.save(
            {**state, "fc.weight": torch.ones(classes, 512), "fc.bias": torch.zeros(classes)}, tmp_path / "w.pth"
        )
        info = prepare(spec(tmp_path / "w.pth")).info
        assert info.classes == classes
        assert (info.categories[0] if info.categories else None) == ("tench" if classes == 1000 else None)


def test_half_precision_checkpoints_are_widened(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    torch.save({k: v.half() if v.is_floating_point() else v for k, v in state.items()}, tmp_path / "w.pth")
    model = resolve(spec(tmp_path / "w.pth")).model()
    assert {value.dtype for value in model.parameters()} == {torch.float32}


def test_wrong_sha256_is_refused_with_both_hashes(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    torch.save(state, tmp_path / "w.pth")
    error = failure(BadSetting, lambda: resolve(spec(tmp_path / "w.pth", "0" * 64)))
    assert error.code == "wrong_sha256"
    assert "0" * 64 in error.message
    assert cache.sha256(tmp_path / "w.pth") in error.message
    assert failure(BadSetting, lambda: resolve(spec("random:0", "0" * 64))).code == "wrong_sha256"


def test_weights_of_another_architecture_are_refused_and_theirs_is_named(
    tmp_path: Path, state: dict[str, torch.Tensor]
) -> None:
    torch.save(state, tmp_path / "w.pth")
    error = failure(BadSetting, lambda: prepare(spec(tmp_path / "w.pth", backbone="resnet34")))
    assert error.code == "weights_mismatch"
    assert "missing" in error.message
    assert "resnet18" in error.hint
    torch.save({"encoder.weight": torch.zeros(3)}, tmp_path / "w.pth")
    assert "no model of the catalogue" in failure(BadSetting, lambda: prepare(spec(tmp_path / "w.pth"))).hint
    torch.save({**state, "layer1.0.conv1.weight": torch.zeros(1, 2, 3, 3)}, tmp_path / "w.pth")
    assert "(1, 2, 3, 3)" in failure(BadSetting, lambda: prepare(spec(tmp_path / "w.pth"))).message


def test_diverged_weights_are_refused(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    torch.save({**state, "bn1.bias": torch.full((64,), float("nan"))}, tmp_path / "w.pth")
    error = failure(BadSetting, lambda: prepare(spec(tmp_path / "w.pth")))
    assert (error.code, "bn1.bias" in error.message) == ("weights_not_finite", True)


class RunsACommand:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_checkpoint_is_named_and_never_run(
    tmp_path: Path, state: dict[str, torch.Tensor], zipped: bool
) -> None:
    marker, path = tmp_path / "ran", tmp_path / "w.pth"
    torch.save({**state, "extra": RunsACommand(marker)}, path, _use_new_zipfile_serialization=zipped)
    error = failure(BadSetting, lambda: prepare(spec(path)))
    assert (error.code, "posix.system" in error.message) == ("weights_unsafe", True)
    assert not marker.exists()
    torch.load(path, weights_only=False)
    assert marker.exists()  # the file was armed


def test_whole_pickled_model_is_refused_with_the_way_to_save_it(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "w.pth")
    error = failure(BadSetting, lambda: prepare(spec(tmp_path / "w.pth")))
    assert (error.code, "state_dict()" in error.hint) == ("weights_unsafe", True)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "weights_unreadable"),
        (b"version https://git-lfs.github.com/spec/v1\n", "weights_unreadable"),
        (b"<html>404</html>", "weights_unreadable"),
        (bytes(range(256)) * 40, "weights_unreadable"),
        (b"PK\x03\x04" + b"\0" * 100, "weights_unreadable"),
        ([torch.zeros(2)], "weights_no_state_dict"),
        ({}, "weights_no_state_dict"),
        ({"epoch": 3}, "weights_no_state_dict"),
        (torch.zeros(3), "weights_no_state_dict"),
    ],
    ids=["empty", "git-lfs", "html", "noise", "broken-zip", "list", "empty-dict", "no-tensors", "tensor"],
)
def test_files_that_are_no_state_dict_are_refused(tmp_path: Path, content: Any, code: str) -> None:
    path = tmp_path / "w.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    assert failure(BadSetting, lambda: prepare(spec(path))).code == code


def test_truncated_checkpoint_is_refused(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    for zipped in (True, False):
        torch.save(state, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
        content = (tmp_path / "w.pth").read_bytes()
        for part in (2, 100, 1000):
            (tmp_path / "w.pth").write_bytes(content[: len(content) - len(content) // part])
            assert failure(BadSetting, lambda: prepare(spec(tmp_path / "w.pth"))).code == "weights_unreadable"


@pytest.mark.parametrize(
    ("name", "code"),
    [("/no/such/file.pth", "weights_missing"), ("/tmp", "weights_missing"), ("foo://x/y", "bad_weights")],
)
def test_locations_without_weights_are_refused(name: str, code: str) -> None:
    assert failure(BadSetting, lambda: resolve(spec(name))).code == code


# --- http and object stores -------------------------------------------------------------------------------------------


def test_http_download_is_kept_under_its_hash(
    served: tuple[Path, str, list[str]], state: dict[str, torch.Tensor]
) -> None:
    folder, address, asked = served
    torch.save(state, folder / "w.pth")
    sha256 = cache.sha256(folder / "w.pth")
    url = f"{address}/w.pth?token=1"
    assert same(resolve(spec(url)).model(), state)
    kept = cache.folder("weights") / f"{sha256}.pth"
    assert [path.name for path in kept.parent.iterdir()] == [kept.name]
    assert resolve(spec(url)).label == f"w_{sha256[:8]}"
    assert len(asked) == 2  # without a hash the file may have changed, with one it cannot
    assert same(resolve(spec(url, sha256)).model(), state)
    assert len(asked) == 2
    kept.write_bytes(b"damaged")
    assert same(resolve(spec(url, sha256)).model(), state)
    assert len(asked) == 3


class CutShort(BaseHTTPRequestHandler):
    """Announces more than it sends."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2000000")
        self.end_headers()
        self.wfile.write(b"x" * 1_500_000)

    def log_message(self, *_: Any) -> None:
        pass


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_download_that_is_cut_short_is_told_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    with ThreadingHTTPServer(("127.0.0.1", 0), CutShort) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        cut = failure(Unreachable, lambda: resolve(spec(f"http://127.0.0.1:{server.server_port}/w.pth")))
        server.shutdown()
    assert (cut.code, "1,500,000 of 2,000,000 bytes" in cut.message) == ("weights_unreachable", True)
    assert not list((tmp_path / "cache" / "weights").iterdir())


def test_a_terminal_is_told_how_far_a_download_is(
    served: tuple[Path, str, list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, address, _ = served
    torch.save({"fc.weight": torch.zeros(10**6)}, folder / "w.pth")
    size = (folder / "w.pth").stat().st_size / 1e6
    resolve(spec(f"{address}/w.pth"))
    assert "Weights:" not in capsys.readouterr().err
    monkeypatch.setattr(sys, "stderr", Terminal())
    resolve(spec(f"{address}/w.pth"))
    assert sys.stderr.getvalue().endswith(f"\rWeights: {size:,.1f} of {size:,.1f} MB\n")  # type: ignore[attr-defined]


def test_http_failures_say_whether_a_retry_helps(
    served: tuple[Path, str, list[str]], closed_port: int, tmp_path: Path
) -> None:
    missing = failure(BadSetting, lambda: resolve(spec(f"{served[1]}/none.pth")))
    assert (missing.code, "404" in missing.message) == ("weights_missing", True)
    closed = failure(Unreachable, lambda: resolve(spec(f"http://127.0.0.1:{closed_port}/w.pth")))
    assert (closed.code, "refused" in closed.message, "keras-v1" in closed.hint) == ("weights_unreachable", True, True)
    assert not list((tmp_path / "cache" / "weights").iterdir())


def test_s3_weights_come_through_arrow(
    state: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from moto.server import ThreadedMotoServer
    from pyarrow import fs

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        endpoint = "http://{}:{}".format(*server.get_host_and_port())
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        torch.save(state, tmp_path / "w.pth")
        filesystem = fs.S3FileSystem(endpoint_override=endpoint, region="us-east-1", allow_bucket_creation=True)
        filesystem.create_dir("weights-bucket")
        with filesystem.open_output_stream("weights-bucket/w.pth") as stream:
            stream.write((tmp_path / "w.pth").read_bytes())
        found = resolve(spec("s3://weights-bucket/w.pth"))
        assert found.sha256 == cache.sha256(tmp_path / "w.pth")
        assert same(found.model(), state)
        gone = failure(BadSetting, lambda: resolve(spec("s3://weights-bucket/none.pth")))
        assert gone.code == "weights_missing"
    finally:
        server.stop()


# --- torchvision's hub ------------------------------------------------------------------------------------------------


def test_hub_weights_are_downloaded_checked_and_recorded_under_their_real_name(
    served: tuple[Path, str, list[str]],
    hub: Callable[[str], None],
    tmp_path: Path,
    state: dict[str, torch.Tensor],
) -> None:
    folder, address, asked = served
    torch.save(state, folder / "w")
    sha256 = cache.sha256(folder / "w")
    name = f"resnet18-{sha256[:8]}.pth"
    (folder / "w").rename(folder / name)
    hub(f"{address}/{name}")
    found = resolve(spec("DEFAULT"))
    assert (found.name, found.label, found.sha256) == ("IMAGENET1K_V2", "imagenet1k_v2", sha256)
    assert (found.preset.resize, resolve(spec("imagenet1k_v1")).preset.resize) == (232, 256)
    assert same(found.model(), state)
    assert asked == [f"/{name}"]
    assert (tmp_path / "torch" / "hub" / "checkpoints" / name).exists()
    info = prepare(spec("DEFAULT")).info
    assert (info.weights, info.key) == ("IMAGENET1K_V2", "resnet18-imagenet1k_v2-fp32")
    assert (info.preprocessing["resize"], len(info.categories)) == (232, 1000)


def test_known_hub_weights_are_found_again_without_torch(
    served: tuple[Path, str, list[str]],
    hub: Callable[[str], None],
    state: dict[str, torch.Tensor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, address, _ = served
    torch.save(state, folder / "w.pth")
    hub(f"{address}/w.pth")
    first = resolve(spec("DEFAULT"))

    def not_again() -> None:
        raise AssertionError("torchvision was asked again")

    monkeypatch.setattr(weights, "torchvision", not_again)
    again = resolve(spec("DEFAULT"))
    assert (again.name, again.label, again.sha256, again.preset) == (
        first.name,
        first.label,
        first.sha256,
        first.preset,
    )
    assert same(again.model(), state)


def test_hub_download_with_the_wrong_hash_is_refused_and_not_kept(
    served: tuple[Path, str, list[str]], hub: Callable[[str], None], tmp_path: Path
) -> None:
    torch.save({"a": torch.zeros(2)}, served[0] / "resnet18-0123abcd.pth")
    hub(f"{served[1]}/resnet18-0123abcd.pth")
    assert "damaged" in failure(Unreachable, lambda: resolve(spec("DEFAULT"))).message
    assert not list((tmp_path / "torch").rglob("*.pth"))


def test_damaged_file_in_torchs_cache_is_found(tmp_path: Path) -> None:
    path = tmp_path / "torch" / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"half a download")
    error = failure(BadSetting, lambda: resolve(spec("DEFAULT")))
    assert (error.code, str(path) in error.message) == ("weights_damaged", True)


def test_unreachable_hub_names_the_alternatives_and_nothing_falls_back(
    hub: Callable[[str], None], closed_port: int
) -> None:
    hub(f"http://127.0.0.1:{closed_port}/resnet18-0123abcd.pth")
    error = failure(Unreachable, lambda: prepare(spec("DEFAULT")))
    assert error.code == "weights_unreachable"
    assert "IMAGENET1K_V2 of resnet18" in error.message
    assert all(name in error.hint for name in ("keras-v1", "path", "random:0"))


def test_hub_that_never_answers_is_given_up_soon(hub: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "TIMEOUT_S", 0.5)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        hub(f"http://127.0.0.1:{silent.getsockname()[1]}/resnet18-0123abcd.pth")
        started = time.monotonic()
        error = failure(Unreachable, lambda: resolve(spec("DEFAULT")))
    assert time.monotonic() - started < 9, "the time-out is ten seconds where it is not made shorter"
    assert "timed out" in error.message
    assert socket.getdefaulttimeout() is None


@pytest.mark.parametrize("name", ["nope", "IMAGENET1K_V2", "keras_v1"])
def test_names_that_the_backbone_lacks_are_refused_with_those_it_has(name: str) -> None:
    error = failure(BadSetting, lambda: resolve(spec(name)))
    assert (error.code, "IMAGENET1K_V1" in error.message) == ("bad_weights", True)


def test_tensor_hash_ignores_order_and_strides_but_no_name_shape_type_or_value() -> None:
    base = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor(1)}
    digest = state_dicts.sha256(base)
    assert state_dicts.sha256({"b": base["b"], "a": base["a"].t().contiguous().t()}) == digest
    for change in (
        {"a": base["a"].view(3, 2), "b": base["b"]},
        {"a": base["a"].double(), "b": base["b"]},
        {"a": base["a"], "c": base["b"]},
        {"a": base["a"] + 1e-6, "b": base["b"]},
    ):
        assert state_dicts.sha256(change) != digest
