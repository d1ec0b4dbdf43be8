"""Jobs on Spark: their entry point, contexts and spreading work, resources, progress, and what is sent to the nodes."""
