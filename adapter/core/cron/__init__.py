"""Schedules: who keeps their clock, what their ticks become, and how a clock changes hands."""
