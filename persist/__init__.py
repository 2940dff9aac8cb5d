"""What is kept and sent of events: the history, the courier to Kafka; and the alertcenter."""
