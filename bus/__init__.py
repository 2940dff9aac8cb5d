"""What the processes say to each other: answers, messages, endpoints, the event log and a client."""
