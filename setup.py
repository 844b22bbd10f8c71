"""Build umview: the Python packages, the modules, the C core and the stack server.

Everything that is only data stands in pyproject.toml. What is left is what needs a
look at the tree: the packages (the folders of modules/ are top-level packages), the
extension module, which csrc/build_ffi.py describes, and what lies beside it: the stack
server, a program (csrc/stackd/Makefile), and libumview, a library for other programs,
with its header (csrc/libumview/Makefile).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import ClassVar

from setuptools import Command, find_packages, setup
from setuptools.command.build import build
from setuptools.errors import ExecError

MODULES = find_packages("modules")
_PROGRAM = "umview/stackd"
_LIBRARY = (
    "umview/include/umview/msocket.h",
    "umview/lib/libumview.so",
    "umview/lib/libumview.so.0",
    "umview/lib/pkgconfig/umview.pc",
)


class BuildBeside(Command):
    """Compile the stack server and libumview, and put them beside the C core."""

    description: ClassVar[str] = "build the stack server and libumview"
    user_options: ClassVar[list[tuple[str, str | None, str]]] = []
    build_base = build_lib = build_temp = ""
    editable_mode = False

    def initialize_options(self) -> None:
        """Have no options."""

    def finalize_options(self) -> None:
        """Take the folders of the command that this one is a part of."""
        whole = self.get_finalized_command("build")
        for name in ("build_base", "build_lib", "build_temp"):
            setattr(self, name, getattr(whole, name))

    def run(self) -> None:
        """Get lwIP, compile, install.

        Raises:
            ExecError: A tool or a library is missing.
        """
        lwip = Path(self.build_base, "lwip")  # where `make build` has it, too
        made = Path(self.build_temp, "stackd")
        place = Path("" if self.editable_mode else self.build_lib, _PROGRAM)
        make = ["make", "-s", f"-j{os.cpu_count() or 1}", "-f"]
        stackd = [*make, "csrc/stackd/Makefile", f"OUT={made}", f"LWIP={lwip}"]
        library = [
            *(*make, "csrc/libumview/Makefile", f"OUT={self.build_temp}/libumview"),
            f"INTO={place.parent}",
        ]
        try:
            if not lwip.exists():
                subprocess.run(["scripts/lwip-source", lwip], check=True)
            subprocess.run([*stackd, f"{made}/stackd"], check=True)
            subprocess.run([*library, "packaged"], check=True)
        except (OSError, subprocess.CalledProcessError) as exc:
            raise ExecError(
                "umview: cannot build stack server or libumview: what failed stands "
                "above; they need a C compiler, make, xz and the headers of libseccomp "
                "and libvdeplug (Debian and Ubuntu: apt-get install gcc make xz-utils "
                "libseccomp-dev libvdeplug-dev)"
            ) from exc
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(made / "stackd", place)

    def get_source_files(self) -> list[str]:
        """Return what a source distribution has to hold."""
        return ["scripts/lwip-source"]  # csrc is in MANIFEST.in

    def get_outputs(self) -> list[str]:
        """Return their places in the built package."""
        if self.editable_mode:
            return []
        return [f"{self.build_lib}/{name}" for name in (_PROGRAM, *_LIBRARY)]

    def get_output_mapping(self) -> dict[str, str]:
        """Return nothing: no output is a copy of a source."""
        return {}


build.sub_commands.append(("build_beside", None))
setup(
    packages=[*find_packages(include=["umview", "umview.*"]), *MODULES],
    package_dir={
        name: f"modules/{name.replace('.', '/')}" for name in MODULES if "." not in name
    },
    package_data={name: ["py.typed", "*.pyi"] for name in ["umview", *MODULES]},
    cffi_modules=["csrc/build_ffi.py:ffibuilder"],
    cmdclass={"build_beside": BuildBeside},
)
