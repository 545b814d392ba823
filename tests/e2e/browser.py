"""Headless Chromium over the DevTools protocol through a pipe: no library, no port."""
import base64
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def installed():
    """The program, or None."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


class NavigatedError(AssertionError):
    """The page that was asked is no longer the one that is shown."""


class Browser:
    """One page of a browser that ends with the `with` block. Notes errors of the console and requests by host."""

    def __init__(self):
        self.profile = tempfile.mkdtemp(prefix="imageddpo-chromium-")
        to_browser, self.write_fd = os.pipe()
        self.read_fd, from_browser = os.pipe()
        # The browser reads commands from 3 and writes to 4.
        command = f'exec "$0" "$@" 3<&{to_browser} 4>&{from_browser}'
        self.process = subprocess.Popen(
            ["bash", "-c", command, installed(), "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
             "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
             f"--user-data-dir={self.profile}", "--remote-debugging-pipe", "about:blank"],
            pass_fds=(to_browser, from_browser), start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(to_browser)
        os.close(from_browser)
        self.number, self.rest, self.session = 0, b"", None
        self.problems, self.urls = [], []
        self.expected = None  # Part of an error's text that is no problem now.
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setFocusEmulationEnabled", enabled=True)  # Else nothing shows that it has the focus.

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        os.close(self.write_fd)
        os.close(self.read_fd)
        shutil.rmtree(self.profile, ignore_errors=True)

    def _note(self, message):
        method, values = message.get("method"), message.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.problems.append(values["exceptionDetails"].get("exception", {}).get("description", str(values)))
        elif method == "Runtime.consoleAPICalled" and values["type"] in ("error", "warning"):
            self.problems.append(str([a.get("value", a.get("description")) for a in values["args"]]))
        elif method == "Log.entryAdded" and values["entry"]["level"] == "error":
            text = f'{values["entry"]["text"]} {values["entry"].get("url", "")}'
            if self.expected is None or self.expected not in text:
                self.problems.append(text)
        elif method == "Network.requestWillBeSent":
            self.urls.append(values["request"]["url"])

    def call(self, method, timeout=240, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.write_fd, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + timeout
        while True:
            while b"\0" in self.rest:
                text, self.rest = self.rest.split(b"\0", 1)
                answer = json.loads(text)
                self._note(answer)
                if answer.get("id") == self.number:
                    if "error" in answer:
                        if any(sign in answer["error"].get("message", "") for sign in ("navigated", "context was destroyed", "Cannot find context")):
                            raise NavigatedError(f"{method}: {answer['error']}")
                        raise AssertionError(f"{method}: {answer['error']}")
                    return answer["result"]
            if not select.select([self.read_fd], [], [], max(0, deadline - time.monotonic()))[0]:
                raise AssertionError(f"{method}: no answer in {timeout} s")
            data = os.read(self.read_fd, 1 << 16)
            if not data:
                raise AssertionError(f"{method}: the browser has ended")
            self.rest += data

    def run(self, script):
        """The value of an expression; a promise is awaited."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise AssertionError(f"{script}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def wait(self, script, what, timeout=60):
        deadline = time.monotonic() + timeout
        while not self.run_or_none(f"Boolean({script})"):
            if time.monotonic() > deadline:
                raise AssertionError(f"waited {timeout} s for {what}: {self.run('document.body.innerText')[:2000]}\n{self.problems}")
            time.sleep(0.1)

    def run_or_none(self, script):
        """As run(); None where the page was replaced by another meanwhile."""
        try:
            return self.run(script)
        except NavigatedError:
            return None

    def look(self, width, dark, height=900):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])

    def key(self, name, code):
        """Presses a key: its name, and its number in Windows."""
        for kind in ("rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=name, code=name, windowsVirtualKeyCode=code)

    def open(self, url):
        self.call("Page.navigate", url=url)

    def screenshot(self, path, most_height=2600):
        height = min(most_height, int(self.run("document.documentElement.scrollHeight")))
        width = int(self.run("innerWidth"))
        data = self.call("Page.captureScreenshot", captureBeyondViewport=True, clip={"x": 0, "y": 0, "width": width, "height": height, "scale": 1})
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(data["data"]))
