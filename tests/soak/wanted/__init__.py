"""What must have come of a soak: every fact that follows from the commands of the journal, and from nothing else."""
