"""imageddpo_client without a service: installation by pip, what rewards may return, servers, faults of use."""
import pathlib
import subprocess
import sys
import tempfile

import rewards_harness

sys.dont_write_bytecode = True


def main():
    with rewards_harness.installed() as package:
        subprocess.run([rewards_harness.python(), rewards_harness.HERE / "package_cases.py"],
                       env=rewards_harness.environment(package), check=True)
    with tempfile.TemporaryDirectory() as folder:  # As users install it, from a copy, without a network.
        copy = pathlib.Path(folder) / "copy"
        copy.mkdir()
        subprocess.run(["cp", "-r", "--parents", "deploy/python", "proto", copy], check=True, cwd=rewards_harness.harness.ROOT)
        subprocess.run([rewards_harness.python(), "-m", "pip", "install", "--quiet", "--root-user-action=ignore", "--no-index", "--no-deps", "--no-build-isolation",
                        "--target", pathlib.Path(folder) / "site", copy / "deploy/python"], check=True)
        shown = subprocess.run([rewards_harness.python(), "-c", "import imageddpo_client; print(imageddpo_client.__file__)"],
                               env=rewards_harness.environment(pathlib.Path(folder) / "site"), check=True,
                               capture_output=True, text=True).stdout
        assert shown.startswith(folder), shown
    print("ok")


main()
