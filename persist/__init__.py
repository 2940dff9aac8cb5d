"""The history processes of a later release: recorder, history service, courier to Kafka, alert center."""
