"""Model packages: a model, its environment and its server as one environment version, as an image, or as a context."""
