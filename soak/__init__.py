"""Hours of steady mixed load on real processes, with kills and restarts; then a verdict."""
