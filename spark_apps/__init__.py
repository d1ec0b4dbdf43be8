"""The Spark side: image features under plain spark-submit. Knows nothing of Airflow."""
