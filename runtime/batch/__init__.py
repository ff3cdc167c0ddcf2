"""The workers of batch jobs. They run inside a model's environment: standard library only, and relative imports."""
