"""What the Airflow side and the Spark side share: settings, names, errors, manifests. Standard library only."""

from spark_apps.contract import access as access
from spark_apps.contract import partitions as partitions
from spark_apps.contract import photo_input as photo_input
from spark_apps.contract.backbones import BACKBONES
from spark_apps.contract.checks import CHECKS, FIXED, LEVELS, OVERRULABLE, RELATIONS, WARN_LIMITS, warned
from spark_apps.contract.command_line import AnySettings, from_here, parse, to_args
from spark_apps.contract.decoders import DECODER_PACKAGES, DECODERS
from spark_apps.contract.documents import (
    PUBLISHED,
    REPORT_VERSION,
    STANDING,
    WITH_WARNINGS,
    Manifest,
    ModelInfo,
    Staged,
    StagedFile,
    error_from_record,
    error_record,
    now,
)
from spark_apps.contract.errors import (
    BadSetting,
    ExitCode,
    JobError,
    NothingToDo,
    QualityFailed,
    Unreachable,
)
from spark_apps.contract.extractors import EXTRACTOR_HELP, EXTRACTOR_PATTERN, EXTRACTORS, PHOTOS, check_extractor
from spark_apps.contract.fields import check_value, describe, out_of_range, setting
from spark_apps.contract.follow_ups import (
    COMMANDS,
    ApproveSettings,
    DuplicatesSettings,
    IndexSettings,
    ModelSettingsOfARun,
    SyncSettings,
)
from spark_apps.contract.jobs import JobSpec, is_left_by, job_spec
from spark_apps.contract.model_settings import LAYER_PATTERN, WEIGHTS_HELP, ModelSettings
from spark_apps.contract.model_sources import MODEL_HELP, MODEL_SOURCES, is_at_a_place, model_source
from spark_apps.contract.names import (
    ENVIRONMENT,
    ENVIRONMENT_PYTHON,
    PARTITION_PATTERN,
    STAGES,
    RunKey,
    check_location,
    check_partition,
    check_store,
    is_image_id,
    is_of_dag,
    join,
    model_key,
    path_safe,
    plain_scheme,
    run_folder,
    run_key,
)
from spark_apps.contract.precisions import PRECISIONS, Precision
from spark_apps.contract.quarantine import QUARANTINE_CODES, BadFile
from spark_apps.contract.settings import (
    KEEP,
    MAX_PIXELS,
    MAX_RETENTION_HOURS,
    PHOTO_PIXELS,
    REFERENCE,
    SETTINGS,
    EraseSettings,
    ExtractSettings,
    IngestSettings,
    JobSettings,
    MaintainSettings,
    Settings,
    StoreSettings,
    UndoSettings,
    ValidateSettings,
)
