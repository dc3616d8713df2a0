"""What the processes are built from: a thread for a device, a durable store, a leg, logs, TLS, the edge's errors."""
