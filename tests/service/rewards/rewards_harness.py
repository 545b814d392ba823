"""What the tests of Python rewards share: a Python that has what imageddpo_client needs, and processes of rewards."""
import contextlib
import functools
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "e2e"))
sys.dont_write_bytecode = True
import harness  # noqa: E402  (found by the line above)

PACKAGE = harness.ROOT / "deploy/python"


@functools.lru_cache
def python():
    """This Python or Debian's, which has the packages after deploy/setup.sh."""
    for candidate in (os.environ.get("IMAGEDDPO_CLIENT_PYTHON"), sys.executable, "/usr/bin/python3"):
        if candidate and subprocess.run([candidate, "-c", "import grpc, google.protobuf, numpy, PIL, setuptools"],
                                        capture_output=True, check=False).returncode == 0:
            return candidate
    raise AssertionError("no Python with grpcio, protobuf, numpy and Pillow; run deploy/setup.sh")


@contextlib.contextmanager
def installed():
    """A folder for PYTHONPATH with the package in it, as an installation makes it."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="imageddpo-client-"))
    try:
        shutil.copytree(PACKAGE / "imageddpo_client", folder / "imageddpo_client", ignore=shutil.ignore_patterns("__pycache__"))
        subprocess.run([python(), PACKAGE / "setup.py", "descriptors", folder / "imageddpo_client"], check=True)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def environment(folder):
    return {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}


class Process:
    """A reward's process; ended with the `with` block."""

    def __init__(self, folder, script, *arguments, log):
        self.log = pathlib.Path(log)
        with open(self.log, "a", encoding="utf-8") as file:
            self.process = subprocess.Popen([python(), script, *map(str, arguments)], env=environment(folder),
                                            stdout=file, stderr=file, stdin=subprocess.DEVNULL)

    def __enter__(self):
        harness.wait_for(lambda: "serves at" in self.log.read_text() or self.ended(), 60, f"{self.log} to serve")
        assert not self.ended(), self.log.read_text()
        return self

    def __exit__(self, *_):
        if not self.ended():
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.process.wait()

    def ended(self):
        return self.process.poll() is not None
