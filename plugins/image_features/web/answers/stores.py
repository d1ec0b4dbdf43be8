"""What is refused, and which Dags and stores there are."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel


class Problem(BaseModel):
    """Why a request was refused. Never holds a path or a secret.

    `code` is stable: not_signed_in, not_allowed, not_our_dag, no_such_store, no_such_run, no_such_part,
    no_such_partition, no_such_photo, no_thumbnail, bad_partition, bad_image_id, bad_request, not_same_origin,
    upload_too_large, busy, no_model_artifact, own_extractor, the codes of `StoreState`, and those of
    `contract.QUARANTINE_CODES` for an uploaded photo; `unexpected` else.
    """

    code: str
    message: str
    hint: str = ""


class StoreState(BaseModel):
    """Whether the store can be read, in words: not `ok` means that the rest of the answer is empty or incomplete.

    `missing`: the folder is not there. `empty`: nothing was published yet, show how to start. `newer_schema`: written
    by a later version of this project or of Delta Lake. `not_allowed`: a run names it, but neither its Dag nor the
    configuration does.
    """

    code: Literal[
        "ok",
        "not_configured",
        "not_allowed",
        "missing",
        "empty",
        "denied",
        "unreachable",
        "damaged",
        "newer_schema",
        "unexpected",
    ]
    message: str = ""
    hint: str = ""


class StoreChoice(BaseModel):
    """One store of a Dag. `key` stands for it in requests; `name` is the end of its path, as much of it as
    tells the stores apart."""

    key: str
    name: str


class DagStores(BaseModel):
    """A Dag and its stores, the first one to be shown first."""

    dag_id: str
    stores: list[StoreChoice]


class Dags(BaseModel):
    """The pipeline's Dags that the caller may read; the first one is to be shown. Empty: none of them."""

    dag_ids: list[str]
    dags: list[DagStores]
