"""Builds descriptors.bin, the API as protobuf describes it, from proto/ of the source tree. The package makes its
messages from that at import, so it has no generated code and works with every protobuf from 3.20 on.

    python3 setup.py descriptors FOLDER    only descriptors.bin, into FOLDER
"""
import pathlib
import shutil
import subprocess
import sys

from setuptools import setup
from setuptools.command.build_py import build_py

HERE = pathlib.Path(__file__).resolve().parent
PROTO = HERE.parents[1] / "proto"


def write_descriptors(folder):
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / "descriptors.bin"
    if not PROTO.is_dir():
        raise SystemExit(f"{PROTO} is missing; install the package from imageddpo's source tree: pip install deploy/python")
    protoc = [shutil.which("protoc")] if shutil.which("protoc") else [sys.executable, "-m", "grpc_tools.protoc"]
    names = ("imageddpo/v1/reward.proto", "imageddpo/v1/service.proto", "google/rpc/error_details.proto",
             "google/rpc/status.proto")
    files = [str(PROTO / name) for name in names]
    subprocess.run([*protoc, f"-I{PROTO}", "--include_imports", f"--descriptor_set_out={target}", *files], check=True)


class BuildPy(build_py):
    def run(self):
        super().run()
        # An editable installation uses the package where it is.
        package = HERE / "imageddpo_client" if getattr(self, "editable_mode", False) \
            else pathlib.Path(self.build_lib) / "imageddpo_client"
        write_descriptors(package)


if sys.argv[1:2] == ["descriptors"]:
    write_descriptors(pathlib.Path(sys.argv[2]))
else:
    setup(cmdclass={"build_py": BuildPy})
