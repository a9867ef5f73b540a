"""A replica that says that it is ready, and dies of each request: it takes one in, writes it down, and
hangs up.

Prints where it listens, then a line for each request. Only Python's standard library.
"""

import socketserver


class Mute(socketserver.StreamRequestHandler):
    """One connection."""

    def handle(self):
        line = self.rfile.readline().decode("ascii", "replace").split()
        if len(line) < 2:
            return
        length = 0
        while (header := self.rfile.readline().strip()) != b"":
            name, _, value = header.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        if line[1] == "/readyz":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return
        self.rfile.read(length)
        print(line[0], line[1], flush=True)


class Server(socketserver.ThreadingTCPServer):
    """Nobody waits for its connections to end."""

    daemon_threads = True


with Server(("127.0.0.1", 0), Mute) as server:
    print("%s:%d" % server.server_address, flush=True)
    server.serve_forever()
