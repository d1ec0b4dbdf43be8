"""What the stages do, in the order of the data: landing, plan, compute, quality, drift."""
