"""Remote executors: all HTTP to others. Knows nothing of the store."""
