"""One module per object of the studio."""
