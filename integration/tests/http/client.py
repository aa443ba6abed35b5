#!/usr/bin/env python3
"""Asks a server in one of the ways that programs do. Prints, as JSON, how often it was answered with which class of status.

client.py WAY HOST PORT COUNT PATH...
"""
import collections
import http.client
import json
import socket
import sys
import threading

TIMEOUT = 60
answered = collections.Counter()


def note(status):
    answered[f"{status // 100}xx"] += 1


def opened():
    line = socket.create_connection((host, port), TIMEOUT)
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return line


def ask(line, method, path, **more):
    line.request(method, path, **more)
    reply = line.getresponse()
    reply.read()
    note(reply.status)


def cycle():
    return (paths[number % len(paths)] for number in range(count))


def library():
    return http.client.HTTPConnection(host, port, timeout=TIMEOUT)


def keep():
    line = library()
    for path in cycle():
        ask(line, "GET", path)


def each():
    for path in cycle():
        line = library()
        ask(line, "GET", path)
        line.close()


def head():
    line = library()
    for path in cycle():
        ask(line, "HEAD", path)


def post():
    """Bodies that are said to be long, and such that come in chunks."""
    line = library()
    bodies = [b"", b"short", b"z" * 100_000, b"z" * (1 << 20)]
    for number, path in enumerate(cycle()):
        body = bodies[number % len(bodies)]
        if number % 3 == 2:
            ask(line, "POST", path, body=iter([body[:100], body[100:200], b"end"]), encode_chunked=True,
                headers={"Transfer-Encoding": "chunked"})
        else:
            ask(line, "POST", path, body=body)


def wait():
    print("ready", flush=True)
    sys.stdin.readline()


def held():
    """On a connection on which there were requests before, which are not among those that are told of."""
    line = library()
    for number in range(3):
        ask(line, "GET", paths[number % len(paths)])
    answered.clear()
    wait()
    for path in cycle():
        ask(line, "GET", path)


def silent():
    """On a connection that nothing was said on before."""
    line = library()
    line.connect()
    wait()
    for path in cycle():
        ask(line, "GET", path)


def again():
    """As many for each line that is read."""
    line = library()
    print("ready", flush=True)
    while sys.stdin.readline():
        for path in cycle():
            ask(line, "GET", path)
        print(json.dumps(answered), flush=True)
        answered.clear()


class Replies:
    """Of one connection, one after the other."""

    def __init__(self, line, at_once=1 << 16):
        self.line, self.at_once, self.bytes = line, at_once, b""

    def more(self):
        got = self.line.recv(self.at_once)
        assert got, "the server has hung up"
        self.bytes += got

    def until(self, end):
        while end not in self.bytes:
            self.more()
        found, _, self.bytes = self.bytes.partition(end)
        return found

    def skip(self, length):
        while len(self.bytes) < length:
            length -= len(self.bytes)
            self.bytes = b""
            self.more()
        self.bytes = self.bytes[length:]

    def next(self):
        first, *fields = self.until(b"\r\n\r\n").split(b"\r\n")
        status = int(first.split()[1])
        fields = dict(field.lower().split(b":", 1) for field in fields)
        if fields.get(b"transfer-encoding", b"").strip() == b"chunked":
            while size := int(self.until(b"\r\n"), 16):
                self.skip(size + 2)
            self.until(b"\r\n")
        elif status not in (101, 204, 304):
            self.skip(int(fields[b"content-length"]))
        if status // 100 != 1 or status == 101:
            note(status)
        return status


def request(path, padding=0):
    field = f"Padding: {'p' * padding}\r\n" if padding else ""
    return f"GET {path} HTTP/1.1\r\nHost: it\r\n{field}\r\n".encode()


def ahead(padding):
    """All of them in one write."""
    line = opened()
    asked = b"".join(request(path, padding) for path in cycle())
    # A server that answers faster than it is listened to reads no further.
    writer = threading.Thread(target=line.sendall, args=(asked,))
    writer.start()
    replies = Replies(line)
    for _ in range(count):
        replies.next()
    writer.join()
    line.close()


def pipelined():
    ahead(0)


def padded():
    """Heads that are longer than what is looked at in the kernel."""
    ahead(700)


def waves():
    """Several at a time, again and again on one connection."""
    line = opened()
    replies = Replies(line)
    todo = list(cycle())
    while todo:
        wave, todo = todo[:16], todo[16:]
        line.sendall(b"".join(map(request, wave)))
        for _ in wave:
            replies.next()
    line.close()


def single():
    """Byte by byte, both ways."""
    line = opened()
    replies = Replies(line, 1)
    for path in cycle():
        for byte in request(path):
            line.send(bytes([byte]))
        replies.next()
    line.close()


def pieces():
    """Heads and bodies cut anywhere."""
    line = opened()
    replies = Replies(line, 7)
    for number, path in enumerate(cycle()):
        body = b"b" * (50 * (number % 3))
        whole = f"POST {path} HTTP/1.1\r\nHost: it\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
        at = 1 + number % (len(whole) - 1)
        line.send(whole[:at])
        line.send(whole[at:])
        replies.next()
    line.close()


def nonsense():
    """Nobody answers, and it is nobody's protocol."""
    for number in range(count):
        with opened() as line:
            for _ in range(20):
                line.sendall(bytes([128 + number % 100]) * 50)


def changed():
    """After some requests something else is said."""
    line = opened()
    replies = Replies(line)
    for path in cycle():
        line.sendall(request(path))
        replies.next()
    line.sendall(b"\x01\x02\x03 no request \xff\xfe\r\n\r\n")
    # What the server thinks of that is not asked for.
    while line.recv(4096):
        pass


def upgraded():
    """Another protocol from there on, with words that look like requests."""
    for _ in range(count):
        with opened() as line:
            fields = "Host: it\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
            line.sendall(f"GET /socket HTTP/1.1\r\n{fields}".encode())
            replies = Replies(line)
            assert replies.next() == 101
            for frame in (b"\x81\x05hello", request("/"), b"\x82\x7e" + bytes(300)):
                line.sendall(frame)
                replies.skip(len(frame))


def endless():
    """A head that has no end."""
    for _ in range(count):
        with opened() as line:
            line.sendall(b"GET / HTTP/1.1\r\nHost: it\r\nX-Endless: ")
            for _ in range(100):
                line.sendall(b"e" * 1000)


def unanswered():
    for _ in range(count):
        with opened() as line:
            line.sendall(request("/"))


ways = [keep, each, head, post, held, silent, again, pipelined, padded, waves, single, pieces]
ways += [nonsense, changed, upgraded, endless, unanswered]
ways = {way.__name__: way for way in ways}
way, host, port, count, *paths = sys.argv[1:]
port, count = int(port), int(count)
ways[way]()
if way != "again":
    print(json.dumps(answered), flush=True)
