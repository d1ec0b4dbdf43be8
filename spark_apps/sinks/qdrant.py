"""A collection of Qdrant: one point for each row, with the cosine as its distance and the other columns as payload.

What a sync remembers lies in the collection `image_features_sync` beside it. Needs `qdrant-client`.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa

from spark_apps.contract import BadSetting
from spark_apps.sinks.sink import PAYLOAD, VECTOR, row_id, unreachable

MARKS = "image_features_sync"
REQUEST_ROWS = 256
"""Points of one request: of 2,048 numbers each, 6 MB as JSON; a server takes 32."""
PAGE = 10_000
TIMEOUT_SECONDS = 120


class QdrantSink:
    """`client`: of a server, or one that keeps its files itself; `collection` is made when there is something in it."""

    def __init__(self, client: Any, collection: str) -> None:
        from qdrant_client import models

        self._client, self._collection, self._models = client, collection, models

    @classmethod
    def at(cls, uri: str) -> QdrantSink:
        """`qdrant://host:6333/collection`; qdrants:// by TLS. Without a host that of QDRANT_URL; the key is in
        QDRANT_API_KEY.

        Raises BadSetting: qdrant-client is not installed, or the URI names no collection.
        """
        try:
            from qdrant_client import QdrantClient
        except ImportError as error:
            raise BadSetting(
                "no_qdrant", "The package qdrant-client is not installed here.", "pip install 'image-features[qdrant]'."
            ) from error
        parts = urlsplit(uri)
        collection = parts.path.strip("/")
        if not collection or "/" in collection:
            raise BadSetting(
                "bad_to", f"{uri!r} names no collection of Qdrant.", "Write qdrant://host:6333/collection."
            )
        scheme = "https" if parts.scheme == "qdrants" else "http"
        url = f"{scheme}://{parts.netloc}" if parts.netloc else os.environ.get("QDRANT_URL", "http://localhost:6333")
        key = os.environ.get("QDRANT_API_KEY") or None
        return cls(QdrantClient(url=url, api_key=key, timeout=TIMEOUT_SECONDS, check_compatibility=False), collection)

    def mark(self) -> str:
        """See `Sink`."""
        with self._reaching():
            if not self._client.collection_exists(MARKS):
                return ""
            found = self._client.retrieve(MARKS, [self._mark_id], with_payload=True)
            return str(found[0].payload["mark"]) if found else ""

    def remember(self, mark: str) -> None:
        """See `Sink`."""
        models = self._models
        with self._reaching():
            if not self._client.collection_exists(MARKS):
                self._client.create_collection(MARKS, models.VectorParams(size=1, distance=models.Distance.DOT))
            point = models.PointStruct(
                id=self._mark_id, vector=[0.0], payload={"collection": self._collection, "mark": mark}
            )
            self._client.upsert(MARKS, [point], wait=True)

    def apply(self, partition: str, rows: pa.RecordBatchReader, gone: Collection[str] | None) -> None:
        """See `Sink`. New rows come before old ones go, so what stays is there throughout."""
        with self._reaching():
            there = self._client.collection_exists(self._collection)
            put = set[str]()
            for batch in rows:
                if not there:
                    self._create(batch.schema.field(VECTOR).type.list_size)
                    there = True
                for first in range(0, batch.num_rows, REQUEST_ROWS):
                    put.update(self._upsert(batch.slice(first, REQUEST_ROWS)))
            if there:
                ids = [one for one in self._ids(partition) if one not in put] if gone is None else None
                self._delete(ids if ids is not None else [row_id(partition, uri) for uri in gone or ()])

    def counts(self) -> dict[str, int]:
        """See `Sink`."""
        with self._reaching():
            if not self._client.collection_exists(self._collection):
                return {}
            limit = 2 * PAGE
            while len(hits := self._client.facet(self._collection, "partition", limit=limit, exact=True).hits) == limit:
                limit *= 2
            return {str(hit.value): hit.count for hit in hits if hit.count}

    def close(self) -> None:
        """See `Sink`."""
        self._client.close()

    @property
    def _mark_id(self) -> str:
        return row_id("", self._collection)

    def _create(self, dim: int) -> None:
        models = self._models
        self._client.create_collection(
            self._collection, models.VectorParams(size=dim, distance=models.Distance.COSINE, on_disk=True)
        )
        for name in ("partition", "uri", "image_id"):
            self._client.create_payload_index(self._collection, name, models.PayloadSchemaType.KEYWORD, wait=True)

    def _upsert(self, batch: pa.RecordBatch) -> list[str]:
        payloads = batch.select(PAYLOAD.names).to_pylist()
        ids: list[Any] = [row_id(row["partition"], row["uri"]) for row in payloads]
        vectors = batch[VECTOR].flatten().to_numpy().reshape(batch.num_rows, -1).tolist()
        self._client.upsert(
            self._collection, self._models.Batch(ids=ids, vectors=vectors, payloads=payloads), wait=True
        )
        return ids

    def _ids(self, partition: str) -> Iterator[str]:
        models = self._models
        wanted = models.Filter(must=[models.FieldCondition(key="partition", match=models.MatchValue(value=partition))])
        offset = None
        while True:
            points, offset = self._client.scroll(
                self._collection, wanted, limit=PAGE, offset=offset, with_payload=False, with_vectors=False
            )
            yield from (str(point.id) for point in points)
            if offset is None:
                return

    def _delete(self, ids: list[Any]) -> None:
        for first in range(0, len(ids), PAGE):
            self._client.delete(
                self._collection, self._models.PointIdsList(points=ids[first : first + PAGE]), wait=True
            )

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        from qdrant_client.http.exceptions import ApiException

        try:
            yield
        except (ApiException, OSError, ValueError) as error:  # ValueError: of a client that keeps its files itself
            raise unreachable(f"The collection {self._collection} of Qdrant", error) from error
