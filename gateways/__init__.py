"""What clients talk to: requests come in as text, are checked, and go on as records of the bus."""
