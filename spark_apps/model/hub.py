"""Files of the Hugging Face Hub, kept where its client keeps them ($HF_HOME)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from spark_apps.contract import BadSetting, Unreachable

ALTERNATIVES = (
    "Try again later, or give the weights as a path or URI of a safetensors file or state dict, or use random:0 for "
    "tests."
)


def file(repository: str, names: Sequence[str], what: str) -> Path:
    """The first of `names` that the repository (`owner/name`, or `owner/name@revision`) has.

    Raises:
        BadSetting: it has none, there is no such repository, or its licence must be accepted first.
        Unreachable: the hub does not answer.
    """
    from huggingface_hub import errors, hf_hub_download

    identity, _, revision = repository.partition("@")
    for name in names:
        try:
            return Path(hf_hub_download(repo_id=identity, filename=name, revision=revision or None))
        except errors.LocalEntryNotFoundError as error:
            raise _unreachable(what, error) from error
        except errors.EntryNotFoundError:
            continue
        except errors.GatedRepoError as error:
            raise BadSetting(
                "weights_gated",
                f"{what} are in {identity}, whose licence must be accepted on the hub first.",
                "Accept it there and set HF_TOKEN for the jobs, or give the weights as a path or URI.",
            ) from error
        except errors.RepositoryNotFoundError as error:
            raise BadSetting(
                "weights_missing", f"{what} are not in {identity}: there is no such repository.", ALTERNATIVES
            ) from error
        except OSError as error:  # HfHubHTTPError and what the network raises
            raise _unreachable(what, error) from error
    raise BadSetting("weights_missing", f"{what} are not in {identity}: it has no {' or '.join(names)}.", ALTERNATIVES)


def _unreachable(what: str, error: Exception) -> Unreachable:
    reason = " ".join(str(error).split())[:200]
    return Unreachable("weights_unreachable", f"{what} cannot be fetched from the hub: {reason}.", ALTERNATIVES)
