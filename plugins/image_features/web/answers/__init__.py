"""What the pages' API answers, model by model. This is the contract between the server and the pages.

All addresses are below `/image-features` of the api-server; pages use relative ones (`api/…`, `static/…`), so that a
sub-path in `[api] base_url` changes nothing.

| request | answer |
|---|---|
| GET `/` (`?dag_id=&store=&model=`, all optional) | `pages/overview.html` |
| GET `/runs?dag_id=&run_id=` (`&task_id=` from a task's tab, `&part=`) | `pages/run.html` |
| GET `/explore?dag_id=&store=&partition=&model=&image=` (all optional) | `pages/explore.html` |
| GET `/static/<name>` | a file below `static/`, sub-folders included, from a list made at start |
| GET `/api/dags` | `Dags`: the pipeline's Dags that the caller may read, with their stores |
| GET `/api/overview?store=&model=` | `Overview` of all of these Dags |
| GET `/api/<dag_id>/overview?store=&model=` | `Overview` |
| GET `/api/<dag_id>/runs/<dag_run_id>?part=` | `RunReport` |
| GET `/api/<dag_id>/runs/<dag_run_id>/quarantine?part=&page=` | `QuarantinePage` |
| GET `/api/<dag_id>/runs/<dag_run_id>/photos?part=&count=` | `Sample`: drawn at random by run, the same each time |
| GET `/api/<dag_id>/partitions/<partition>/photos?store=&model=&page=` | `PhotoPage` |
| GET `/api/<dag_id>/partitions/<partition>/neighbours?store=&model=&image=&k=` | `Neighbours` |
| POST `/api/<dag_id>/partitions/<partition>/neighbours?store=&model=&k=` | `Neighbours`; see below |
| GET `/api/<dag_id>/thumbnails/<partition>/<image_id>?store=` | image/webp, at most 256 pixels a side, or 404 |

`store` is the key of one of the Dag's stores, never a place; without it the first is meant, in an overview all. `part`
is the key of one of a run's parts; without it the first that failed is meant, else the first.

The navigation shows `static/icon.svg`, in the dark theme `static/icon-dark.svg`.

The POST takes the photo itself as body (at most 20 MB), with `Content-Type: image/<anything>` or
`application/octet-stream` and the header `X-Image-Features: 1`, which no other site's form can send.

Pages are counted from 1. `model` may be left out: the newest published model is meant. Every refusal, whatever its
status, is a `Problem`. The state of the store comes inside an ordinary answer (`StoreState`), because a page has to
draw it; where there would be nothing else to answer, it is a `Problem` with the same code and words.

Times are ISO 8601 with their zone, in UTC. Every field is always there; null means not known or not applicable.
"""

from image_features.web.answers.overview import FollowUp as FollowUp
from image_features.web.answers.overview import JobErrorInfo as JobErrorInfo
from image_features.web.answers.overview import Overview as Overview
from image_features.web.answers.overview import OverviewStore as OverviewStore
from image_features.web.answers.overview import PartitionRow as PartitionRow
from image_features.web.answers.overview import Status as Status
from image_features.web.answers.photos import Compared as Compared
from image_features.web.answers.photos import DuplicateFile as DuplicateFile
from image_features.web.answers.photos import DuplicateGroup as DuplicateGroup
from image_features.web.answers.photos import DuplicatesPage as DuplicatesPage
from image_features.web.answers.photos import Neighbour as Neighbour
from image_features.web.answers.photos import Neighbours as Neighbours
from image_features.web.answers.photos import PartitionModels as PartitionModels
from image_features.web.answers.photos import Photo as Photo
from image_features.web.answers.photos import PhotoPage as PhotoPage
from image_features.web.answers.photos import PoorPhoto as PoorPhoto
from image_features.web.answers.photos import PoorPhotos as PoorPhotos
from image_features.web.answers.photos import PoorPhotosOfAKind as PoorPhotosOfAKind
from image_features.web.answers.photos import Sample as Sample
from image_features.web.answers.runs import Calibration as Calibration
from image_features.web.answers.runs import CheckRow as CheckRow
from image_features.web.answers.runs import Counts as Counts
from image_features.web.answers.runs import DagRunInfo as DagRunInfo
from image_features.web.answers.runs import Day as Day
from image_features.web.answers.runs import Drift as Drift
from image_features.web.answers.runs import ModelInfo as ModelInfo
from image_features.web.answers.runs import MovedPhoto as MovedPhoto
from image_features.web.answers.runs import Norms as Norms
from image_features.web.answers.runs import Progress as Progress
from image_features.web.answers.runs import QuarantineCode as QuarantineCode
from image_features.web.answers.runs import QuarantinedFile as QuarantinedFile
from image_features.web.answers.runs import QuarantinePage as QuarantinePage
from image_features.web.answers.runs import RunPart as RunPart
from image_features.web.answers.runs import RunReport as RunReport
from image_features.web.answers.runs import SecondOpinion as SecondOpinion
from image_features.web.answers.runs import Stage as Stage
from image_features.web.answers.runs import Verdict as Verdict
from image_features.web.answers.stores import Dags as Dags
from image_features.web.answers.stores import DagStores as DagStores
from image_features.web.answers.stores import Problem as Problem
from image_features.web.answers.stores import StoreChoice as StoreChoice
from image_features.web.answers.stores import StoreState as StoreState
