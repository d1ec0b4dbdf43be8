"""From the bytes of a file to pixels, safely. Knows neither Spark nor Airflow."""
