"""The web page of a real service, in headless Chromium: list, job, gallery, comparison, cluster, with an empty service and
with jobs that have succeeded, failed, are paused, wait, and have 1,000 epochs.

  page.py [--screenshots FOLDER]

Without Chromium it says so and ends with 77. Checks on every page, at three widths, in both themes: no error in the console,
no request to another host, nothing wider than the window, a name for every control, contrast of texts (WCAG AA)."""
import argparse
import json
import pathlib
import sys
import urllib.error
import urllib.request

sys.dont_write_bytecode = True
import browser
import harness

WIDTHS = (390, 1024, 1920)
REWARD = [{"type": "jpeg", "measure": "compressibility"}]  # Needs no labels.

# The lowest contrast of the page's texts with what is behind them, and where.
CONTRAST = """(() => {
  const parse = (text) => { const v = text.match(/[\\d.]+/g).map(Number); return v.length < 4 ? [...v, 1] : v; };
  const light = (c) => { const v = c.slice(0, 3).map((x) => { x /= 255; return x <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * v[0] + 0.7152 * v[1] + 0.0722 * v[2]; };
  let worst = [21, ""];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.data.trim(), element = walker.currentNode.parentElement;
    if (!text || !element.getClientRects().length || element.closest("noscript, option, [disabled]")) continue;
    const style = getComputedStyle(element);
    const front = parse(element.namespaceURI.endsWith("svg") ? style.fill : style.color);
    let behind = element, back = [0, 0, 0, 0];
    while (behind && back[3] === 0) { back = parse(getComputedStyle(behind).backgroundColor); behind = behind.parentElement; }
    const [a, b] = [light(front), light(back)].sort((x, y) => y - x), ratio = (a + 0.05) / (b + 0.05);
    if (ratio < worst[0]) worst = [ratio, text.slice(0, 60)];
  }
  return worst;
})()"""

UNNAMED = {"button", "link", "textbox", "searchbox", "combobox", "slider", "checkbox", "image", "region", "progressbar"}


class Checker:
    def __init__(self, page, base, folder):
        self.page, self.base, self.folder = page, base, folder

    def ready(self):
        self.page.wait("document.querySelector('#live.on') && !document.body.innerText.includes('Loading')", "the page to be live")

    def check(self, name):
        """The page as it is now, in all sizes and themes."""
        for dark in (False, True):
            for width in WIDTHS:
                self.page.look(width, dark)
                self.page.run("new Promise((done) => requestAnimationFrame(() => setTimeout(done, 150)))")
                where = f"{name} at {width} px, {'dark' if dark else 'light'}"
                wide = self.page.run(f"Math.max(document.documentElement.scrollWidth, innerWidth) - {width}")
                assert wide <= 0, f"{where}: {wide} px wider than the window"
                ratio, text = self.page.run(CONTRAST)
                assert ratio >= 4.5, f"{where}: contrast {ratio:.2f} of {text!r}"
                if self.folder:
                    self.page.screenshot(self.folder / f"{name}-{width}-{'dark' if dark else 'light'}.png")
        nodes = self.page.call("Accessibility.getFullAXTree")["nodes"]
        for node in nodes:
            role = node.get("role", {}).get("value")
            if not node.get("ignored") and role in UNNAMED:
                assert node.get("name", {}).get("value"), f"{name}: a {role} without a name: {node}"
        off = [url for url in self.page.urls if not url.startswith((self.base, "data:", "about:"))]
        assert not off, f"{name}: requests to others: {off}"
        assert not self.page.problems, f"{name}: {self.page.problems}"
        print(f"{name}: ok", flush=True)

    def visit(self, name, place):
        self.page.look(1024, False)
        self.page.open("about:blank")
        self.page.open(f"{self.base}/#/{place}")
        self.ready()
        if name:
            self.check(name)


def plain_requests(base, job_id):
    """What the page asks for, without a browser: the files, the JSON, a picture, and their headers."""
    def get(path):
        try:
            with urllib.request.urlopen(base + path, timeout=60) as reply:
                return reply.status, reply.headers, reply.read()
        except urllib.error.HTTPError as error:
            return error.code, error.headers, error.read()
    for path in ("/", "/app.js", "/style.css", "/chart.js", "/api/v1/jobs", "/api/v1/cluster", f"/api/v1/jobs/{job_id}", "/metrics"):
        status, headers, body = get(path)
        assert status == 200 and body, (path, status)
        assert "default-src 'none'" in headers["Content-Security-Policy"] and "unsafe" not in headers["Content-Security-Policy"], path
        assert headers["X-Content-Type-Options"] == "nosniff" and headers["Referrer-Policy"] == "no-referrer", path
    sets = json.loads(get(f"/api/v1/jobs/{job_id}/pictures")[2])["sets"]
    newest = [s for s in sets if s["kind"] == "eval"][-1]
    name = f"eval/epoch-{newest['epoch']:06d}/{newest['pictures'][0]}"
    status, headers, body = get(f"/api/v1/jobs/{job_id}/pictures/{name}")
    assert status == 200 and headers["Content-Type"] == "image/png" and body.startswith(b"\x89PNG"), (name, status)
    assert get(f"/api/v1/jobs/{job_id}/pictures/../metrics.jsonl")[0] == 404


def stretch(job):
    """Gives a job that has ended the rows of 1,000 epochs."""
    for file in ("metrics.jsonl", "timings.jsonl"):
        path = pathlib.Path(job["output_dir"]) / file
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps({**rows[epoch % len(rows)], "epoch": epoch, "update": epoch}) + "\n" for epoch in range(1000)))


def drive(check, jobs):
    """What a person does: list, job, slider of the gallery, comparison."""
    page = check.page
    check.visit("jobs", "jobs")
    assert page.run("document.querySelectorAll('tbody tr').length") == len(jobs)
    page.run("document.querySelector('#filter').value = 'no such job'; document.querySelector('#filter').dispatchEvent(new Event('input'))")
    assert page.run("document.querySelectorAll('tbody tr').length") == 0
    check.visit("", "jobs")
    page.run(f"document.querySelector('a[href=\"#/job/{jobs['done']}\"]').click()")
    page.wait("document.querySelectorAll('.chart svg .line').length > 3", "the curves")
    page.wait("[...document.querySelectorAll('.pictures img')].some((image) => image.naturalWidth > 0)", "a picture")
    before = page.run("document.querySelector('output').textContent")
    page.run("(() => { const s = document.querySelector('#gallery-epoch'); s.value = 0; s.dispatchEvent(new Event('input')); })()")
    assert page.run("document.querySelector('output').textContent") != before == "after 4 epochs"
    page.wait("[...document.querySelectorAll('.pictures img')].every((image) => image.naturalWidth > 0)", "the first pictures")
    page.run("document.querySelector('.chart svg').focus()")
    page.call("Input.dispatchKeyEvent", type="keyDown", key="ArrowLeft", code="ArrowLeft", windowsVirtualKeyCode=37)
    assert "epoch" in page.run("document.querySelector('.chartvalue').textContent"), "the arrow key reads the curve"
    check.check("job-done")
    for name in ("failed", "paused", "long"):
        check.visit(f"job-{name}", f"job/{jobs[name]}")
    check.visit("compare", f"compare/{jobs['done']},{jobs['long']}")
    assert "train.learning_rate" in page.run("document.body.innerText"), "the setting that differs"
    check.visit("cluster", "cluster")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--screenshots", type=pathlib.Path)
    folder = parser.parse_args().screenshots
    with harness.workspace() as directory, harness.Service(directory, 3) as service:
        base = "http://" + json.loads((service.data_dir / "service.json").read_text())["http_address"]
        small = {"num_epochs": 4, "eval": {"every_epochs": 2}}
        if browser.installed() is None:
            job_id = service.run(harness.job(directory, **small))["id"]
            plain_requests(base, job_id)
            print("SKIP: Chromium is not installed (apt-get install chromium); files, JSON and headers were checked without it")
            return 77
        with browser.Browser() as page:
            check = Checker(page, base, folder)
            check.visit("jobs-empty", "jobs")
            done = service.run(harness.job(directory, **small, name="deblur"))
            plain_requests(base, done["id"])
            long = service.run(harness.job(directory, **small, name="longer", train={"learning_rate": 2e-3}))
            stretch(long)
            failed = service.wait_end(service.submit(harness.job(directory, name="fails", rewards=REWARD, data={"path": str(broken(directory))})))
            assert failed["state"] == "FAILED", failed
            paused = service.submit(harness.job(directory, name="paused", num_epochs=1000))
            service.wait(paused, lambda job: int(job["progress"]["epoch"]) >= 1, 120, "an epoch")
            service.client("pause", paused, "--now")
            service.wait(paused, lambda job: job["state"] == "PAUSED", 60, "the pause")
            drive(check, {"done": done["id"], "long": long["id"], "failed": failed["id"], "paused": paused})
    return 0


def broken(directory):
    """A folder with an image that is cut short: a job of it is accepted and fails."""
    folder = directory / "data/broken"
    folder.mkdir()
    for number, source in enumerate(sorted((directory / "data/blurred").rglob("*.png"))[:4]):
        (folder / f"{number}.png").write_bytes(source.read_bytes()[:60] if number == 0 else source.read_bytes())
    return folder


if __name__ == "__main__":
    sys.exit(main())
