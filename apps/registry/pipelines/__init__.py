"""Components and pipelines as plain data: what they declare, how they are bound, in which order they run."""
