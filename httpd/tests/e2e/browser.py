"""Drives a headless Chromium over the DevTools protocol: BROWSER PROFILE-FOLDER URL.

Loads the page, plays its video and seeks in it, loads the page again; prints as JSON what was
shown and what the network brought.
"""

import fcntl
import json
import os
import signal
import subprocess
import sys
from urllib.parse import urlsplit

browser, profile, url = sys.argv[1:]

# All of it takes two seconds.
PATIENCE = 45
# The browser has hung or died while each of its requests had its answer: it is to be tried again.
AGAIN = 75


def leave(why):
    """Ends it, and says where it was."""
    unanswered = tools.unanswered()
    last = [(name, it.get("requestId")) for name, it in tools.events[-20:]]
    print(f"{why}, seen {list(seen)}, unanswered {unanswered}, last events {last}", file=sys.stderr)
    sys.exit(1 if unanswered else AGAIN)


seen = {}
signal.signal(signal.SIGALRM, lambda *_: leave("it hangs"))
signal.alarm(PATIENCE)

PAGE = """(() => {
    const text = document.getElementById('text'), image = document.getElementById('image');
    return {text: text.textContent, color: getComputedStyle(text).color,
            width: image.naturalWidth, height: image.naturalHeight};
})()"""

VIDEO = """(async () => {
    const video = document.getElementById('video');
    const comes = event => new Promise((done, fail) => {
        video.addEventListener(event, done, {once: true});
        video.addEventListener('error', () => fail(video.error.message), {once: true});
    });
    if (video.readyState < HTMLMediaElement.HAVE_METADATA) await comes('loadedmetadata');
    await video.play();
    while (video.currentTime === 0) await comes('timeupdate');
    const played = video.currentTime;
    video.pause();
    video.currentTime = 110;
    await comes('seeked');
    return {duration: video.duration, played, sought: video.currentTime};
})()"""


class DevTools:
    """The protocol over two pipes: JSON, and a NUL behind each message."""

    def __init__(self):
        (its_input, self.output), (self.input, its_output) = os.pipe(), os.pipe()

        def place():
            # It reads from descriptor 3 and writes to 4, which may be in use until here.
            ends = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (its_input, its_output)]
            os.dup2(ends[0], 3)
            os.dup2(ends[1], 4)

        arguments = [
            browser, "--no-sandbox", "--remote-debugging-pipe", f"--user-data-dir={profile}",
            "--no-first-run", "--disable-gpu", "--disable-dev-shm-usage", "--no-proxy-server",
            "--disable-background-networking", "--autoplay-policy=no-user-gesture-required",
        ]
        self.process = subprocess.Popen(arguments, close_fds=False, preexec_fn=place)
        os.close(its_input)
        os.close(its_output)
        self.pending, self.session, self.number, self.events = b"", None, 0, []

    def receive(self):
        """The next message; an event is kept."""
        while b"\0" not in self.pending:
            octets = os.read(self.input, 1 << 20)
            if not octets:
                leave(f"the browser has ended: {self.process.wait()}")
            self.pending += octets
        text, self.pending = self.pending.split(b"\0", 1)
        message = json.loads(text)
        if "method" in message:
            self.events.append((message["method"], message["params"]))
        return message

    def call(self, method, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        octets = json.dumps(message).encode() + b"\0"
        while octets:
            octets = octets[os.write(self.output, octets):]
        while True:
            answer = self.receive()
            if answer.get("id") == self.number:
                if "error" in answer:
                    sys.exit(f"{method}: {answer['error']}")
                return answer["result"]

    def evaluate(self, expression):
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True,
                           returnByValue=True)
        if "exceptionDetails" in answer:
            sys.exit(f"the page: {answer['exceptionDetails']}")
        return answer["result"]["value"]

    def until(self, condition):
        while not condition():
            self.receive()

    def load(self, method, **parameters):
        """Loads the page; the statuses that came over the network, by path."""
        self.events.clear()
        self.call(method, **parameters)
        fired = lambda: any(name == "Page.loadEventFired" for name, _ in self.events)
        self.until(fired)
        # What the network brought may be told later than what it was good for.
        self.until(lambda: not self.unanswered())
        responses = self.responses()
        return {path: responses[it]["statusCode"] for it, (path, _) in self.requests().items()
                if it in responses}

    def unanswered(self):
        """Requests that wait for a response. One that the browser has canceled, as it does with what a page's
        player asked for last when the page is loaded again, waits for none."""
        canceled = {it["requestId"] for name, it in self.events
                    if name == "Network.loadingFailed" and it.get("canceled")}
        responses = self.responses()
        return [it for number, it in self.requests().items()
                if number not in responses and number not in canceled]

    def requests(self):
        """Path and range of each request that has gone out, by its number."""
        urls = {it["requestId"]: it["request"]["url"]
                for name, it in self.events if name == "Network.requestWillBeSent"}
        sent = {it["requestId"]: it["headers"]
                for name, it in self.events if name == "Network.requestWillBeSentExtraInfo"}
        return {number: (urlsplit(urls[number]).path, headers.get("Range"))
                for number, headers in sent.items() if number in urls}

    def responses(self):
        return {it["requestId"]: it
                for name, it in self.events if name == "Network.responseReceivedExtraInfo"}


tools = DevTools()
target = tools.call("Target.createTarget", url="about:blank")["targetId"]
tools.session = tools.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
for domain in ["Page", "Network", "Runtime"]:
    tools.call(f"{domain}.enable")
seen["first"] = tools.load("Page.navigate", url=url)
seen["page"] = tools.evaluate(PAGE)
seen["video"] = tools.evaluate(VIDEO)
tools.until(lambda: not tools.unanswered())
responses = tools.responses()
seen["ranges"] = [
    {"range": span, "status": responses[number]["statusCode"],
     "content_range": responses[number]["headers"].get("Content-Range")}
    for number, (_, span) in tools.requests().items() if span and number in responses
]
seen["again"] = tools.load("Page.reload")
seen["shown_again"] = tools.evaluate(PAGE)["text"]
print(json.dumps(seen))
tools.session = None
tools.call("Browser.close")
tools.process.wait()
