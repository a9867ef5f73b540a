"""Stands between nodes and a coordinator, repeats requests and puts them out of order.

Every third POST is sent twice: at the same time, or the second time after later requests have
passed; every fourth is held back for a while. The node gets one of the answers. Only Python's
standard library.
"""

import argparse
import http.client
import http.server
import itertools
import random
import re
import threading
import time

COUNT = itertools.count(1)
LOCK = threading.Lock()

# What is a matter of one connection.
OWN = ("host", "connection", "transfer-encoding", "content-length")


def forward(method, path, body, headers):
    connection = http.client.HTTPConnection(options.forward, timeout=90)
    connection.request(method, path, body or None, headers)
    reply = connection.getresponse()
    answer = reply.status, reply.getheaders(), reply.read()
    connection.close()
    return answer


def again(request, pause):
    time.sleep(pause)
    try:
        note(f"repeated ({forward(*request)[0]})", request[1])
    except OSError:
        note("lost", request[1])


def note(what, path):
    path = re.sub(r"/jobs/[^/]+", "/jobs/ID", path.split("?")[0])
    with LOCK, open(options.log, "a", encoding="ascii") as log:
        log.write(f"{what} {path}\n")


class Echo(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def body(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def handle_one(self):
        # The next request on this connection overwrites what is known of this one.
        headers = {name: value for name, value in self.headers.items() if name.lower() not in OWN}
        request = self.command, self.path, self.body(), headers
        number = next(COUNT)
        if self.command == "POST" and number % 3 == 0:
            # At once: both race. Later: whatever came after it has passed it.
            pause = random.choice([0, 0, random.uniform(1, 15)])
            threading.Thread(target=again, args=(request, pause), daemon=True).start()
        if self.command == "POST" and number % 4 == 0:
            note("held", self.path)
            time.sleep(random.uniform(0.5, 3))
        try:
            self.answer(*forward(*request))
        except OSError:
            self.close_connection = True

    def answer(self, status, headers, content):
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in OWN:
                self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_DELETE = handle_one

    def log_message(self, *arguments):
        pass


parser = argparse.ArgumentParser()
parser.add_argument("--listen", required=True)
parser.add_argument("--forward", required=True)
parser.add_argument("--log", required=True)
options = parser.parse_args()
host, port = options.listen.split(":")
http.server.ThreadingHTTPServer((host, int(port)), Echo).serve_forever()
