"""Reading the store: partitions, runs, manifests, reports and vectors; and what has landed in a source so far. Needs
pyarrow and deltalake, no pyspark.

Nothing here writes to the store; `model_folder` may copy a model's files to a folder of the caller's. Every function
raises `contract.Unreachable` when the store cannot be read.
"""

from __future__ import annotations

from spark_apps.catalog.changes import Changes as Changes
from spark_apps.catalog.changes import changes as changes
from spark_apps.catalog.changes import changes_of as changes_of
from spark_apps.catalog.documents import document as document
from spark_apps.catalog.documents import document_in as document_in
from spark_apps.catalog.documents import error as error
from spark_apps.catalog.documents import ingest_of as ingest_of
from spark_apps.catalog.documents import left_by as left_by
from spark_apps.catalog.documents import left_in as left_in
from spark_apps.catalog.documents import manifest as manifest
from spark_apps.catalog.documents import model_folder as model_folder
from spark_apps.catalog.documents import report as report
from spark_apps.catalog.documents import runs as runs
from spark_apps.catalog.documents import stage_of as stage_of
from spark_apps.catalog.erasures import erasure_marks as erasure_marks
from spark_apps.catalog.extents import Extent as Extent
from spark_apps.catalog.extents import extent as extent
from spark_apps.catalog.landings import Landed as Landed
from spark_apps.catalog.landings import landed as landed
from spark_apps.catalog.landings import marker as marker
from spark_apps.catalog.landings import reached_with as reached_with
from spark_apps.catalog.latest import latest as latest
from spark_apps.catalog.places import Original as Original
from spark_apps.catalog.places import Place as Place
from spark_apps.catalog.places import contents as contents
from spark_apps.catalog.places import original as original
from spark_apps.catalog.places import places as places
from spark_apps.catalog.places import read_again as read_again
from spark_apps.catalog.places import staged_places as staged_places
from spark_apps.catalog.tables import Partition as Partition
from spark_apps.catalog.tables import Publication as Publication
from spark_apps.catalog.tables import columns as columns
from spark_apps.catalog.tables import dataset as dataset
from spark_apps.catalog.tables import earlier as earlier
from spark_apps.catalog.tables import exists as exists
from spark_apps.catalog.tables import fingerprints as fingerprints
from spark_apps.catalog.tables import folders as folders
from spark_apps.catalog.tables import images as images
from spark_apps.catalog.tables import never_published as never_published
from spark_apps.catalog.tables import partitions as partitions
from spark_apps.catalog.tables import publications as publications
from spark_apps.catalog.tables import published as published
from spark_apps.catalog.tables import quarantine as quarantine
from spark_apps.catalog.tables import staged_rows as staged_rows
from spark_apps.catalog.tables import stream as stream
from spark_apps.catalog.tables import table as table
from spark_apps.catalog.tables import use_storage as use_storage
from spark_apps.catalog.tables import vectors as vectors
from spark_apps.tables.staged_lists import with_lists as with_lists
