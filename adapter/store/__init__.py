"""All SQL of the project. Knows nothing of other executors or HTTP."""
