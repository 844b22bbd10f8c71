"""Build umview: the Python packages, the modules and the C core.

Everything that is only data stands in pyproject.toml. What is left is what needs a
look at the tree: the packages (the folders of modules/ are top-level packages) and
the extension module, which csrc/build_ffi.py describes.
"""

from setuptools import find_packages, setup

MODULES = find_packages("modules")

setup(
    packages=[*find_packages(include=["umview", "umview.*"]), *MODULES],
    package_dir={
        name: f"modules/{name.replace('.', '/')}" for name in MODULES if "." not in name
    },
    package_data={name: ["py.typed", "*.pyi"] for name in ["umview", *MODULES]},
    cffi_modules=["csrc/build_ffi.py:ffibuilder"],
)
