"""`make env`: writes a fresh .env for docker-compose.yaml, with generated secrets: env.py [FILE]

Any Python 3.8 or newer will do, no package is needed. A file that is there already stays as it is.
"""

import base64
import os
import secrets
import sys

TEMPLATE = """\
# Made by `make env`; docker-compose.yaml reads it. Keep it to yourself, and keep it: with another Fernet key Airflow
# cannot read the connections in its database, and Postgres knows its first password only.

AIRFLOW_ADMIN_PASSWORD={password}
AIRFLOW_FERNET_KEY={fernet}
AIRFLOW_JWT_SECRET={jwt}
AIRFLOW_API_SECRET={api}
POSTGRES_PASSWORD={postgres}
SPARK_AUTH_SECRET={spark}

# Your photos: a folder with one folder a day in it (2026-11-22/...), readable for the user with the number APP_UID.
#LANDING=/srv/photos
#APP_UID=1000

# More Python packages in the image; then `docker compose up -d --wait --build`.
#PACKAGES=apache-airflow-providers-fab

# Weights of a new run's form: DEFAULT is the best of torchvision's hub, random:0 is for trying without a network.
#WEIGHTS=DEFAULT

# Size of the cluster. An executor takes its memory in the JVM (little is needed) and more in Python, up to the limit.
#SPARK_WORKERS=2
#SPARK_WORKER_CORES=1
#SPARK_WORKER_MEMORY_LIMIT=4g

# Where Airflow answers. On another address than loopback, put TLS in front of it.
#AIRFLOW_BIND=127.0.0.1
#AIRFLOW_PORT=8080
#AIRFLOW_URL=http://localhost:8080

# For Dags of your own whose tasks wait: for photos, for jobs elsewhere. Several profiles have a comma between them.
#COMPOSE_PROFILES=triggerer

# Spark's pages of finished jobs.
#COMPOSE_PROFILES=history
#SPARK_EVENT_LOG=true
#SPARK_HISTORY_URL=http://localhost:18080

# Photos and results in an S3-compatible store that this stack brings. For another one, with its own keys and endpoint,
# leave the profile out.
#COMPOSE_PROFILES=s3
#SOURCE=s3://photos
#STORE=s3://features/store
#AWS_ENDPOINT_URL=http://s3:9000
#AWS_REGION=us-east-1
#AWS_ACCESS_KEY_ID={s3_key}
#AWS_SECRET_ACCESS_KEY={s3_secret}
"""


def main(file: str) -> int:
    """Exit code 1 when there is such a file already."""
    text = TEMPLATE.format(
        password=secrets.token_urlsafe(15),
        fernet=base64.urlsafe_b64encode(os.urandom(32)).decode(),
        jwt=secrets.token_urlsafe(48),
        api=secrets.token_urlsafe(48),
        postgres=secrets.token_urlsafe(24),
        spark=secrets.token_urlsafe(48),
        s3_key=secrets.token_hex(10),
        s3_secret=secrets.token_urlsafe(30),
    )
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        print(f"{file} is there already and stays as it is: its secrets are in use. Delete it for fresh ones.")
        return 1
    with os.fdopen(descriptor, "w") as target:
        target.write(text)
    print(f"{file} is written. Its secrets are for you alone; the user of the UI is admin, the password is in it.")
    print("Next: name your photos' folder there (LANDING), then `docker compose up -d --wait`.")
    return 0


if __name__ == "__main__":
    if len(sys.argv) > 2:
        sys.exit("usage: env.py [FILE]")
    sys.exit(main(sys.argv[1] if len(sys.argv) == 2 else ".env"))
