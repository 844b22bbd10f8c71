"""Build the library; all else stands in pyproject.toml."""

from setuptools import setup

setup(cffi_modules=["build_echo.py:ffi"])
