"""Creates the S3 buckets that the given places lie in, where they are missing: buckets.py URI..."""

import os
import sys

from pyarrow import fs

buckets = {uri.split("/")[2] for uri in sys.argv[1:] if uri.startswith(("s3://", "s3a://"))}
if buckets:
    filesystem = fs.S3FileSystem(endpoint_override=os.environ.get("AWS_ENDPOINT_URL"), allow_bucket_creation=True)
    for bucket in sorted(buckets):
        filesystem.create_dir(bucket)
        print(f"The bucket {bucket} is there.")
