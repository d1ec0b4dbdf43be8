"""Writes the file that Airflow's SimpleAuthManager reads passwords from: the one administrator of .env."""

import json
import os
from pathlib import Path

user = os.environ["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS"].partition(":")[0]
file = Path(os.environ["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"])
file.write_text(json.dumps({user: os.environ["AIRFLOW_ADMIN_PASSWORD"]}))
