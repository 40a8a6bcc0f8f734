"""Builds ``damocles_worker.affinity``: ``python cython/setup.py build_ext --build-lib pyworker``.

The C source and objects go to ``build/``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

# Paths of extensions are relative to the directory that setup runs in.
os.chdir(Path(__file__).resolve().parent.parent)

if sys.platform != "linux":
    sys.exit(f"platform {sys.platform}: damocles_worker.affinity is made of Linux system calls")

setup(
    name="damocles-worker-affinity",
    packages=[],
    ext_modules=cythonize(
        [Extension("damocles_worker.affinity", ["cython/affinity.pyx"], extra_compile_args=["-O2", "-Wall"])],
        build_dir="build/cython",
    ),
    options={"build": {"build_base": "build/cython"}},
)
