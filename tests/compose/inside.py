"""Scripts that the tests run inside the stack's containers; each prints JSON. What they need is set before them."""

PUBLISHED = """
import json
from spark_apps import catalog
store, found = "/data/store", {}
for entry in catalog.partitions(store):
    manifest = catalog.manifest(store, entry.partition, entry.run_id, "extract")
    found[entry.partition] = {
        "run_id": entry.run_id,
        "model": entry.model,
        "featured": sorted(catalog.vectors(store, entry.partition, entry.model, ["uri"])["uri"].to_pylist()),
        "quarantined": sorted(catalog.quarantine(store, entry.partition)["uri"].to_pylist()),
        "counts": manifest.counts,
    }
print(json.dumps(found))
"""
"""The published tables: partition → run, uris and counts."""

MASTER = """
import urllib.request
print(urllib.request.urlopen("http://spark-master:8080/json/", timeout=30).read().decode())
"""
"""What Spark's master knows."""

PAGES = """
import json, urllib.request
def get(url):
    return urllib.request.urlopen(url, timeout=30).read().decode()
master = get("http://spark-master:8080/json/")
pages = [master, get("http://spark-master:8080/")]
for worker in json.loads(master)["workers"]:
    if worker["state"] == "ALIVE":
        pages += [get(worker["webuiaddress"] + "/json/"), get(worker["webuiaddress"])]
print(json.dumps(pages))
"""
"""All pages that Spark's master and workers show to whoever reaches them."""

DRIVER = """
import json, time
from pathlib import Path
found = {"arguments": "", "environment": ""}
deadline = time.monotonic() + 300
while not found["environment"] and time.monotonic() < deadline:
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
            if b"spark_apps/ingest.py" in command or b"spark_apps/extract.py" in command:
                found["environment"] += (process / "environ").read_text().replace(chr(0), chr(10))
                found["arguments"] += command.decode().replace(chr(0), " ")
        except OSError:
            continue
    time.sleep(0.1)
print(json.dumps(found))
"""
"""Arguments and environment of a job's driver, as soon as one runs."""

EVENTS = """
import collections, json, pathlib
import pyarrow
found = {}
for folder in pathlib.Path("/data/spark-events").iterdir():
    said = {"app": "", "hosts": {}, "removed": [], "settings": {}}
    said |= {"started": collections.Counter(), "succeeded": collections.Counter()}
    for file in sorted(folder.glob("events_*")):
        with pyarrow.input_stream(str(file), compression="zstd" if file.suffix == ".zstd" else None) as stream:
            lines = stream.read().decode().splitlines()
        for event in map(json.loads, lines):
            kind = event["Event"]
            if kind == "SparkListenerApplicationStart":
                said["app"] = event["App Name"]
            elif kind == "SparkListenerEnvironmentUpdate":
                said["settings"] = event["Spark Properties"]
            elif kind == "SparkListenerExecutorAdded":
                said["hosts"][event["Executor ID"]] = event["Executor Info"]["Host"]
            elif kind == "SparkListenerExecutorRemoved":
                said["removed"].append(f"{event['Executor ID']}: {event['Removed Reason']}")
            elif kind == "SparkListenerTaskStart":
                task = event["Task Info"]
                said["started"][f"{task['Executor ID']} on {task['Host']}"] += 1
            elif kind == "SparkListenerTaskEnd" and event["Task End Reason"]["Reason"] == "Success":
                task = event["Task Info"]
                said["succeeded"][f"{task['Executor ID']} on {task['Host']}"] += 1
    found[folder.name] = said
print(json.dumps(found))
"""
"""Spark's event logs: folder → application, executors, tasks begun and done well by executor, settings."""

SEARCH = """
import json, pathlib
import pyarrow
read, with_secrets = 0, []
for root in ("/data/store", "/data/cache", "/data/spark-events", "/opt/airflow/logs"):
    for file in pathlib.Path(root).rglob("*"):
        if file.is_file() and file.stat().st_size < 64 * 2**20:
            with pyarrow.input_stream(str(file), compression="zstd" if file.suffix == ".zstd" else None) as stream:
                content = stream.read()
            read += 1
            if any(secret.encode() in content for secret in secrets):
                with_secrets.append(str(file))
print(json.dumps({"read": read, "with_secrets": with_secrets}))
"""
"""The files of the volumes in which one of `secrets` is."""

STRANGER = """
import json, os, pathlib, subprocess, tempfile, threading
folder = tempfile.mkdtemp()
settings = pathlib.Path(os.environ["SPARK_CONF_DIR"], "spark-defaults.conf").read_text().splitlines()
kept = [line for line in settings if not line.startswith("spark.authenticate.secret")]
pathlib.Path(folder, "spark-defaults.conf").write_text(chr(10).join([*kept, f"spark.authenticate.secret {secret}"]))
worker = subprocess.Popen(
    ["spark-class", "org.apache.spark.deploy.worker.Worker", "--webui-port", "0", "--work-dir", folder,
     "--memory", "1g", "spark://spark-master:7077"],
    env={**os.environ, "SPARK_CONF_DIR": folder}, stderr=subprocess.STDOUT, stdout=subprocess.PIPE, text=True,
)
alarm = threading.Timer(40, worker.kill)
alarm.start()
said = []
for line in worker.stdout:
    said.append(line.strip())
    if "Successfully registered with master" in line:
        break
alarm.cancel()
worker.kill()
words = [line for line in said if "egister" in line or "Exception" in line or "Failed" in line]
print(json.dumps({"registered": "Successfully registered" in said[-1], "last": words[-1] if words else said[-1]}))
"""
"""Whether the master takes a further worker that knows `secret`, and its last words on that."""
