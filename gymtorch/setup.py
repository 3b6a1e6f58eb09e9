"""Builds gymtorch against the torch that is installed: ``pip install --no-build-isolation ./gymtorch``, where setuptools and wheel are."""

import sys

from setuptools import setup

try:
    from torch.utils.cpp_extension import BuildExtension, CppExtension
except ImportError:
    sys.exit("gymtorch is built against the torch that is here: install torch, then run: pip install --no-build-isolation ./gymtorch")

setup(
    name="gymtorch",
    version="0.1.0",
    description="Memory that another library owns, as a torch tensor: no copy.",
    license="MIT",
    python_requires=">=3.8",
    install_requires=["torch"],
    packages=["gymtorch"],
    package_data={"gymtorch": ["*.pyi", "py.typed"]},
    ext_modules=[CppExtension("gymtorch._memory", ["gymtorch/memory.cpp"])],
    cmdclass={"build_ext": BuildExtension},
)
