"""setuptools, with grpcio-tools where the machine has no protoc: setup.py needs either."""
import shutil

from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F401,F403


def _protoc():
    return [] if shutil.which("protoc") else ["grpcio-tools"]


def get_requires_for_build_wheel(config_settings=None):
    return build_meta.get_requires_for_build_wheel(config_settings) + _protoc()


def get_requires_for_build_editable(config_settings=None):
    return build_meta.get_requires_for_build_editable(config_settings) + _protoc()


def get_requires_for_build_sdist(config_settings=None):
    return build_meta.get_requires_for_build_sdist(config_settings) + _protoc()
