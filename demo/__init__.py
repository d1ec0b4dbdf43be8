"""The demo: three days of real photographs through real Airflow and Spark, and what came out of it."""
