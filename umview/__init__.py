"""Give a program, and all its children, a network of their own."""

__version__ = "0.1.0"
