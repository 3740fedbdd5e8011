"""Telling others how jobs go: an outbox, who is told, and those who deliver."""
