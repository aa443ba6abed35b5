#!/usr/bin/env python3
"""A server of Python's library, and what only a test has: an answer byte by byte, one that changes the protocol, and a port
that only listens. server.py PORT SILENT_PORT, on all addresses of both families."""
import http.server
import socket
import sys
import threading
import time

BIG = b"x" * (1 << 20)
STATUS = {"/": 200, "/missing": 404, "/moved": 301, "/broken": 500, "/nothing": 204}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self):
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def log_message(self, *_):
        pass

    def reply(self, status, body, fields=()):
        self.send_response(status)
        for name, value in fields:
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD" and status != 204:
            self.wfile.write(body)

    def body(self):
        length = int(self.headers.get("Content-Length", 0))
        while length > 0:
            length -= len(self.rfile.read(min(length, 1 << 16)))
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline().split(b";")[0], 16):
                self.rfile.read(size + 2)
            while self.rfile.readline().strip():
                pass

    def do_GET(self):
        path = self.path.split("?")[0]
        if path in STATUS:
            self.reply(STATUS[path], b"hello\n", [("Location", "/")] if path == "/moved" else ())
        elif path == "/big":
            self.reply(200, BIG)
        elif path == "/chunked":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            if self.command != "HEAD":
                for size in (1, 20, 5000):
                    self.wfile.write(b"%x\r\n%s\r\n" % (size, b"y" * size))
                self.wfile.write(b"0\r\n\r\n")
        elif path == "/late":
            time.sleep(0.06)
            self.reply(200, b"at last\n")
        elif path == "/bytes":
            for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello\n":
                self.wfile.write(bytes([byte]))
        elif path == "/socket":
            self.send_response(101)
            self.send_header("Upgrade", "websocket")
            self.send_header("Connection", "Upgrade")
            self.end_headers()
            self.close_connection = True
            while frame := self.connection.recv(4096):
                self.wfile.write(frame)
        else:
            self.reply(404, b"where?\n")

    do_HEAD = do_GET

    def do_POST(self):
        self.body()
        self.reply(200, b"taken\n")

    do_PUT = do_POST


class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
    request_queue_size = 128

    def server_bind(self):
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()

    def handle_error(self, *_):
        pass


def listen(line):
    with line:
        while line.recv(1 << 16):
            pass


def silent(port):
    with socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True) as door:
        while True:
            threading.Thread(target=listen, args=(door.accept()[0],), daemon=True).start()


port, silent_port = map(int, sys.argv[1:])
server = Server(("::", port), Handler)
threading.Thread(target=silent, args=(silent_port,), daemon=True).start()
threading.Thread(target=server.serve_forever, daemon=True).start()
print("ready", flush=True)
sys.stdin.readline()
