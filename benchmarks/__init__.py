"""Measures side by side: ours, the code the project started from, the usual ways on Spark, Ray Data, Daft."""
