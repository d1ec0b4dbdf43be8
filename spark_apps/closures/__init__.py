"""What Python functions take along to Spark's workers: what is pickled, and what must stay on the driver."""
