"""Trees of views: nesting, msocket, umctl, modules of others, the Python API."""
