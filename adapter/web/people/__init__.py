"""REST for people: jobs, how things stand, figures for Prometheus."""
