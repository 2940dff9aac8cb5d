"""The clients of a soak: HTTP and WebSocket through nginx, the bus; each remembers what it was answered."""
