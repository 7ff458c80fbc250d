"""A page in headless Chromium, driven over its debugging pipe: needs the browser and nothing else."""
import contextlib
import fcntl
import json
import os
import pathlib
import select
import shutil
import subprocess

import support

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ANSWER_SECONDS = 60  # until an answer counts as lost


def high_pipe():
    """A pipe whose ends stay clear of 3 and 4, where Chromium wants its own."""
    ends = []
    for end in os.pipe():
        ends.append(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10))
        os.close(end)
    return ends


class Page:
    def __init__(self, profile):
        to_browser, self.sends = high_pipe()
        self.reads, from_browser = high_pipe()
        flags = ["--headless", "--disable-gpu", "--remote-debugging-pipe", f"--user-data-dir={profile}",
                 "--no-first-run", "--disable-background-networking", "--disable-component-update",
                 "--disable-sync", "--disable-dev-shm-usage"]
        if os.geteuid() == 0:
            flags.append("--no-sandbox")  # Chromium refuses to run as root with one
        self.log = open(pathlib.Path(profile).with_suffix(".log"), "wb")
        self.process = subprocess.Popen(
            ["bash", "-c", 'exec "${@:3}" 3<&"$1" 4>&"$2"', "chromium", str(to_browser), str(from_browser),
             CHROMIUM, *flags, "about:blank"],
            pass_fds=(to_browser, from_browser), stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        os.close(to_browser)
        os.close(from_browser)
        self.last, self.rest, self.session = 0, b"", None
        self.failures = []  # exceptions that the page's scripts threw
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Runtime.enable")

    def message(self):
        while b"\0" not in self.rest:
            if not select.select([self.reads], [], [], ANSWER_SECONDS)[0]:
                raise AssertionError(f"Chromium said nothing for {ANSWER_SECONDS} s")
            piece = os.read(self.reads, 1 << 20)
            if not piece:
                raise AssertionError(f"Chromium ended: {pathlib.Path(self.log.name).read_text()[-500:]}")
            self.rest += piece
        text, self.rest = self.rest.split(b"\0", 1)
        return json.loads(text)

    def call(self, method, **parameters):
        self.last += 1
        sent = {"id": self.last, "method": method, "params": parameters}
        if self.session:
            sent["sessionId"] = self.session
        os.write(self.sends, json.dumps(sent).encode() + b"\0")
        while True:
            said = self.message()
            if said.get("method") == "Runtime.exceptionThrown":
                self.failures.append(said["params"]["exceptionDetails"])
            if said.get("id") != self.last:
                continue
            if "error" in said:
                raise AssertionError(f"{method}: {said['error']['message']}")
            return said["result"]

    def open(self, url, width=1200, height=900):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        self.call("Page.navigate", url=url)

    def value(self, script):
        said = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in said:
            raise AssertionError(f"{script}: {said['exceptionDetails']}")
        return said["result"].get("value")

    def wait(self, script, what=None):
        return support.wait_until(lambda: self.value(script), ANSWER_SECONDS, what or script)

    def text(self, selector):
        """What a reader sees there, in one line; empty where it is hidden."""
        return " ".join(self.value(f"document.querySelector({json.dumps(selector)}).innerText").split())

    def texts(self, selector):
        found = self.value(f"[...document.querySelectorAll({json.dumps(selector)})].map((n) => n.innerText ?? n.textContent)")
        return [" ".join(text.split()) for text in found]

    def click(self, selector):
        self.value(f"document.querySelector({json.dumps(selector)}).dispatchEvent(new MouseEvent('click', {{bubbles: true}}))")

    def close(self):
        os.close(self.sends)  # the end of the pipe ends the browser
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self.reads)
        self.log.close()


@contextlib.contextmanager
def page():
    with support.scratch() as folder:
        opened = Page(folder / "profile")
        try:
            yield opened
        finally:
            opened.close()
