"""A listing as one table, for tests that look at all of it."""

from __future__ import annotations

import pyarrow as pa

from spark_apps.pipeline import landing


def table(*source: str, **how: str) -> pa.Table:
    """What `landing.list_files` lists."""
    return whole(landing.list_files(*source, **how))


def whole(listing: landing.Listing) -> pa.Table:
    """All pages of a listing."""
    return pa.concat_tables([landing.LISTING.empty_table(), *listing.pages()])
