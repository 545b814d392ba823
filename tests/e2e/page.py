"""The web page of a real service, in headless Chromium: list, job, gallery, logs, comparison, cluster, with an empty service
and with jobs that run, have succeeded, failed, are paused, and have 1,000 epochs; then with tokens: what may be changed.

  page.py [--screenshots FOLDER]

Without Chromium it says so and ends with 77. Checks on every page, at three widths, in both themes: no error in the console,
no request to another host, nothing wider than the window, a name for every control, contrast of texts (WCAG AA); the Tab
key reaches every control and shows where it is."""
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
FIRST_PAINT_MS = 1500  # Five times the goal, since the machine also runs the service and other tests.
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

# Every control that the Tab key should reach; and what it is on now: its number among them, and whether that can be seen.
CONTROLS = """(() => {
  window.tabbed = [...document.querySelectorAll('a[href], button, input, select, [tabindex="0"]')]
    .filter((e) => !e.disabled && e.getClientRects().length && getComputedStyle(e).visibility === "visible");
  return window.tabbed.map((e) => (e.getAttribute("aria-label") || e.id || e.textContent || e.tagName).trim().slice(0, 40));
})()"""
FOCUSED = """(() => {
  const e = document.activeElement, style = getComputedStyle(e);
  return [window.tabbed.indexOf(e), e === document.body, parseFloat(style.outlineWidth) > 0 && style.outlineStyle !== "none"];
})()"""

UNNAMED = {"dialog", "button", "link", "textbox", "searchbox", "combobox", "slider", "checkbox", "image", "region", "progressbar"}


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

    def focus(self, name):
        """Tab through a page that was just opened: everything is reached, and shows that it is."""
        controls, reached = self.page.run(CONTROLS), set()
        for _ in range(len(controls) + 20):
            self.page.key("Tab", 9)
            index, is_body, is_seen = self.page.run(FOCUSED)
            if is_body or (index in reached and len(reached) == len(controls)):
                break
            assert is_seen, f"{name}: the focus on {controls[index] if index >= 0 else 'another element'} cannot be seen"
            reached.add(index)
        left = [text for index, text in enumerate(controls) if index not in reached]
        assert not left, f"{name}: the Tab key does not reach {left}"

    def visit(self, name, place):
        self.page.look(1024, False)
        self.page.open("about:blank")
        self.page.open(f"{self.base}/#/{place}")
        self.ready()
        if name:
            self.check(name)

    def first_paint(self):
        """Milliseconds until something is seen, the best of five."""
        times = []
        for _ in range(5):
            self.page.open("about:blank")
            self.page.open(f"{self.base}/")
            self.ready()
            times.append(self.page.run("performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 1e9"))
        print(f"first paint after {min(times):.0f} ms", flush=True)
        assert min(times) < FIRST_PAINT_MS, times


def plain_requests(base, job_id):
    """What the page asks for, without a browser: the files, the JSON, a picture, and their headers."""
    def get(path):
        try:
            with urllib.request.urlopen(base + path, timeout=60) as reply:
                return reply.status, reply.headers, reply.read()
        except urllib.error.HTTPError as error:
            return error.code, error.headers, error.read()
    for path in ("/", "/app.js", "/style.css", "/chart.js", "/logs.js", "/api/v1/jobs", "/api/v1/cluster", "/api/v1/whoami", f"/api/v1/jobs/{job_id}",
                 f"/api/v1/jobs/{job_id}/logs?tail=3", "/metrics"):
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


def drive(check, jobs, done_dir):
    """What a person does: list, job, slider of the gallery, comparison."""
    page = check.page
    check.visit("jobs", "jobs")
    check.focus("jobs")
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
    page.run("(() => { const s = document.querySelector('#gallery-epoch'); s.value = s.max; s.dispatchEvent(new Event('input')); })()")
    page.wait("document.querySelector('.scores tbody tr')", "what the pictures scored")
    heads = page.run("[...document.querySelector('.scores').querySelectorAll('thead th')].map((cell) => cell.textContent)")
    names = page.run("[...document.querySelector('.scores').querySelectorAll('tbody th')].map((cell) => cell.textContent)")
    assert heads == ["before", "after"] and names[0] == "reward" and "classifier.value" in names, (heads, names)
    scores_are_the_files(page, done_dir)
    the_log(page)
    the_timeline(page)
    page.run("document.querySelector('.chart svg').focus()")
    page.call("Input.dispatchKeyEvent", type="keyDown", key="ArrowLeft", code="ArrowLeft", windowsVirtualKeyCode=37)
    assert "epoch" in page.run("document.querySelector('.chartvalue').textContent"), "the arrow key reads the curve"
    check.check("job-done")
    assert page.run("document.querySelector('[aria-label=\"Change this job\"]').hidden"), "without tokens nothing can be changed"
    for name in ("failed", "paused", "long"):
        check.visit(f"job-{name}", f"job/{jobs[name]}")
        check.focus(f"job-{name}")
    check.visit("compare", f"compare/{jobs['done']},{jobs['long']}")
    assert "train.learning_rate" in page.run("document.body.innerText"), "the setting that differs"
    check.focus("compare")
    check.visit("cluster", "cluster")
    check.focus("cluster")


def scores_are_the_files(page, folder):
    """The rewards beside the pictures are those of the evaluation's files."""
    rows = [json.loads((folder / f"eval/epoch-{epoch:06d}.jsonl").read_text().splitlines()[0])["reward"] for epoch in (0, 4)]
    shown = page.run("[...document.querySelector('.scores tbody tr').querySelectorAll('td')].map((cell) => Number(cell.textContent))")
    assert all(abs(there - here) <= 0.01 * abs(here) + 1e-6 for there, here in zip(shown, rows, strict=True)), (shown, rows)


def choose(page, selector, value):
    page.run(f"(() => {{ const s = document.querySelector('{selector}'); s.value = '{value}'; s.dispatchEvent(new Event('change')); }})()")


def the_log(page):
    page.wait("document.querySelectorAll('.log li').length > 0", "the log")
    ranks = page.run("[...document.querySelectorAll('#log-rank option')].map((option) => option.value)")
    assert ranks[0] == "" and len(ranks) > 1, ranks
    choose(page, "#log-rank", ranks[1])
    page.wait(f"document.querySelectorAll('.log li').length && [...document.querySelectorAll('.log li')].every((line) => line.innerText.includes('rank {ranks[1]}'))",
              "the lines of one rank")
    choose(page, "#log-level", "critical")
    page.wait("document.querySelectorAll('.log li').length === 0 && document.body.innerText.includes('Nothing of this level')", "an empty log")
    choose(page, "#log-level", "info")
    choose(page, "#log-rank", "")
    page.wait("document.querySelectorAll('.log li').length > 0", "the log again")


def the_timeline(page):
    page.wait("document.querySelector('.epochmark')", "the timeline")
    assert page.run("document.querySelectorAll('.epochmark').length") == 4, "an epoch each"
    page.run("document.querySelector('.epochmark').closest('svg').focus()")
    page.key("ArrowLeft", 37)
    told = page.run("document.querySelector('.epochmark').closest('figure').innerText")
    assert "Epoch 4" in told and "wait" in told, told


class TokenService(harness.Service):
    """A service whose page asks for tokens."""

    def __init__(self, directory, ranks):
        super().__init__(directory, ranks, folder=b"with-tokens")
        self.config.write_text(json.dumps({**json.loads(self.config.read_text()), "http": {"port": 0}}))


def change_jobs(page, directory, folder):
    """With a viewer's token nothing can be changed; an admin pauses, resumes, asks for a checkpoint and cancels."""
    service = TokenService(directory, 2)
    admin = service.admin("init")
    viewer = service.admin("token", "create", "--owner", "vera", "--role", "viewer")
    with service:
        base = "http://" + json.loads((service.data_dir / "service.json").read_text())["http_address"]
        check = Checker(page, base, folder)
        job_id = service.submit(harness.job(directory, name="changed", num_epochs=1000))
        service.wait(job_id, lambda job: int(job["progress"]["epoch"]) >= 1, 120, "an epoch")

        page.open("about:blank")
        page.urls.clear()  # Of the other service's page.
        page.problems.clear()
        page.expected = " 401 "  # Chromium notes every one in its console.
        page.open(f"{base}/#/job/{job_id}")
        page.wait("document.querySelector('#token')", "the question for a token")
        check.check("token")
        use_token(page, viewer)
        check.ready()
        page.expected = None
        assert page.run("document.querySelector('[aria-label=\"Change this job\"]').hidden"), "a viewer is offered verbs"

        page.run(f"sessionStorage.setItem('imageddpo-token', '{admin}')")
        page.run("window.isOld = true")
        page.call("Page.reload")
        page.wait("!window.isOld && document.querySelector('#verb-pause')", "the verbs")
        check.check("job-running-admin")
        press(page, "pause", "")
        check.check("confirm-pause")
        page.run("[...document.querySelectorAll('dialog button')].find((b) => b.textContent.startsWith('No')).click()")
        page.wait("!document.querySelector('dialog')", "the dialog to be gone")
        assert service.get(job_id)["state"] == "RUNNING", "nothing is done without a yes"
        press(page, "checkpoint", "Checkpoint it")
        page.wait("document.body.innerText.includes('A checkpoint will be written')", "the answer")
        press(page, "pause", "")
        page.run("document.querySelector('dialog #now').click()")
        confirm(page, "Pause it")
        service.wait(job_id, lambda job: job["state"] == "PAUSED", 120, "the pause")
        press(page, "resume", "Resume it")
        service.wait(job_id, lambda job: job["state"] == "RUNNING", 120, "the job to go on")
        press(page, "cancel", "Cancel it")
        service.wait(job_id, lambda job: job["state"] == "CANCELLED", 120, "the end")
        page.wait("!document.querySelector('#verb-cancel')", "the verbs of a job that has ended")
        assert not page.problems, page.problems

        rows = [json.loads(line) for line in (service.data_dir / "audit.jsonl").read_text().splitlines()]
        asked = [row["method"] for row in rows if row["peer"].startswith("http:127.0.0.1") and row["allowed"]]
        assert asked == ["CheckpointJob", "PauseJob", "ResumeJob", "CancelJob"], rows
        assert admin not in (service.data_dir / "audit.jsonl").read_text() + service.log.read_text()
        for token, header, code in ((admin, False, 403), (None, True, 401), (viewer, True, 403)):
            assert change(base, job_id, token, header) == code, (token is None, header, code)


def use_token(page, token):
    page.run(f"(() => {{ document.querySelector('#token').value = '{token}'; document.querySelector('form button').click(); }})()")
    page.wait("!document.querySelector('#token')", "the page after the token")


def press(page, verb, yes):
    """Presses the button of a verb and, unless it is empty, the one in the dialog."""
    page.wait(f"document.querySelector('#verb-{verb}')", f"the button {verb}")
    page.run(f"document.querySelector('#verb-{verb}').click()")
    page.wait("document.querySelector('dialog[open]')", "the question")
    assert page.run("document.activeElement.textContent").startswith("No"), "the harmless answer has the focus"
    if yes:
        confirm(page, yes)


def confirm(page, yes):
    page.run(f"[...document.querySelectorAll('dialog button')].find((b) => b.textContent === '{yes}').click()")
    page.wait("!document.querySelector('dialog')", "the dialog to be gone")


def change(base, job_id, token, header):
    """The code of a request that would cancel the job."""
    headers = {**({"Authorization": f"Bearer {token}"} if token else {}), **({"X-Imageddpo-Change": "1"} if header else {})}
    try:
        with urllib.request.urlopen(urllib.request.Request(f"{base}/api/v1/jobs/{job_id}/cancel", method="POST", headers=headers), timeout=60) as reply:
            return reply.status
    except urllib.error.HTTPError as error:
        return error.code


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
            check.first_paint()
            done = service.run(harness.job(directory, **small, name="deblur"))
            plain_requests(base, done["id"])
            long = service.run(harness.job(directory, **small, name="longer", train={"learning_rate": 2e-3}))
            stretch(long)
            failed = service.wait_end(service.submit(harness.job(directory, name="fails", rewards=REWARD, data={"path": str(broken(directory))})))
            assert failed["state"] == "FAILED", failed
            paused = service.submit(harness.job(directory, name="paused", num_epochs=1000))
            service.wait(paused, lambda job: int(job["progress"]["epoch"]) >= 1, 120, "an epoch")
            check.visit("job-running", f"job/{paused}")
            assert page.run("document.querySelector('.chip.accent')?.textContent") == "running"
            service.client("pause", paused, "--now")
            service.wait(paused, lambda job: job["state"] == "PAUSED", 60, "the pause")
            drive(check, {"done": done["id"], "long": long["id"], "failed": failed["id"], "paused": paused}, pathlib.Path(done["output_dir"]))
            page.open("about:blank")  # The page would go on asking.
            service.stop()
            change_jobs(page, directory, folder)
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
