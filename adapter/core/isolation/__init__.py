"""Handlers in processes of their own: for what computes for long, may crash, or is not trusted to end."""
