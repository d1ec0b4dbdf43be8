# An S3 server for trying the profile s3: moto's, which keeps everything in memory and checks no key.
ARG BASE_IMAGE=debian:bookworm-slim
FROM ${BASE_IMAGE}
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends ca-certificates python3.11-venv \
    && rm -rf /var/lib/apt/lists/*
COPY requirements.txt .
RUN --mount=type=secret,id=pip_conf,target=/etc/pip.conf \
    python3.11 -m venv /opt/venv && /opt/venv/bin/pip install --quiet --no-cache-dir --constraint requirements.txt "moto[server]"
USER nobody
ENV PYTHONDONTWRITEBYTECODE=1
ENTRYPOINT ["/opt/venv/bin/moto_server"]
