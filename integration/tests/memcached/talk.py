#!/usr/bin/python3
"""Speaks to a Memcached server command by command, in ways that no client library does. Prints how many commands were answered,
and with what: what it was told itself.

talk.py ADDRESS PORT WAY COUNT
"""
import json
import os
import socket
import struct
import sys

CHUNK = 1 << 15
# As large as an item may be here, and larger.
LARGE, TOO_LARGE = 1 << 20, 5 << 20
FAILED = (b"ERROR", b"CLIENT_ERROR", b"SERVER_ERROR")
HEADER = ">BBHBBHIIQ"


class Line:
    def __init__(self):
        self.socket = socket.create_connection((ADDRESS, PORT), 60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""

    def send(self, whole):
        # In pieces that are read whole wherever they are looked at.
        for at in range(0, len(whole), CHUNK):
            self.socket.sendall(whole[at : at + CHUNK])

    def more(self):
        got = self.socket.recv(CHUNK)
        assert got, "the server has hung up"
        self.buffer += got

    def exactly(self, length):
        while len(self.buffer) < length:
            self.more()
        whole, self.buffer = self.buffer[:length], self.buffer[length:]
        return whole

    def line(self):
        while b"\r\n" not in self.buffer:
            self.more()
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        return line

    def reply(self):
        """One, whatever it is, with the values that belong to it."""
        first = line = self.line()
        while True:
            words = line.split()
            if words[0] in (b"VALUE", b"VA"):
                self.exactly(int(words[3 if words[0] == b"VALUE" else 1]) + 2)
            if words[0] not in (b"VALUE", b"STAT"):
                break
            line = self.line()
        ANSWERS["failed" if words[0] in FAILED else "ok"] += 1
        return first

    def ask(self, command):
        self.send(command)
        return self.reply()

    def header(self):
        """Of a binary answer, whose body is left out."""
        fields = struct.unpack(HEADER, self.exactly(24))
        assert fields[0] == 0x81, fields
        self.exactly(fields[6])
        return fields

    def answer(self, opcode):
        fields = self.header()
        assert fields[1] == opcode, (fields, opcode)
        # Not found, there already, not stored.
        ANSWERS["ok" if fields[5] in (0, 1, 2, 5) else "failed"] += 1
        return fields


def store(verb, key, value, more=""):
    return f"{verb} {key} 0 0 {len(value)}{more}\r\n".encode() + value + b"\r\n"


def key(name):
    return f"{WAY}-{os.getpid()}-{name}"


def text():
    """Every command that there is for a key, and those without one."""
    line = Line()
    for number in range(COUNT):
        value = b"%d" % number
        assert line.ask(store("set", key("a"), value)) == b"STORED"
        assert line.ask(store("add", key("a"), value)) == b"NOT_STORED"
        assert line.ask(store("replace", key("a"), value)) == b"STORED"
        assert line.ask(store("append", key("a"), b"0")) == b"STORED"
        assert line.ask(store("prepend", key("nothing"), b"0")) == b"NOT_STORED"
        assert line.ask(f"get {key('a')}\r\n".encode()).startswith(b"VALUE")
        assert line.ask(f"get {key('nothing')}\r\n".encode()) == b"END"
        line.ask(store("set", key("b"), b"END\r\nget\r\n"))
        line.ask(f"get {key('a')} {key('nothing')} {key('b')}\r\n".encode())
        cas = line.ask(f"gets {key('b')} {key('a')}\r\n".encode()).split()[4].decode()
        assert line.ask(store("cas", key("b"), b"y", f" {cas}")) == b"STORED"
        assert line.ask(store("cas", key("b"), b"y", f" {cas}")) == b"EXISTS"
        assert line.ask(store("cas", key("nothing"), b"y", " 1")) == b"NOT_FOUND"
        assert line.ask(f"incr {key('a')} 5\r\n".encode()) == b"%d" % (number * 10 + 5)
        assert line.ask(f"decr {key('a')} 5\r\n".encode()).strip() == b"%d" % (number * 10)
        assert line.ask(f"incr {key('nothing')} 5\r\n".encode()) == b"NOT_FOUND"
        assert line.ask(f"touch {key('a')} 60\r\n".encode()) == b"TOUCHED"
        assert line.ask(f"gat 60 {key('a')}\r\n".encode()).startswith(b"VALUE")
        assert line.ask(f"gats 60 {key('a')} {key('b')}\r\n".encode()).startswith(b"VALUE")
        assert line.ask(f"delete {key('a')}\r\n".encode()) == b"DELETED"
        assert line.ask(f"delete {key('a')}\r\n".encode()) == b"NOT_FOUND"
        assert line.ask(b"version\r\n").startswith(b"VERSION")
        assert line.ask(b"stats\r\n").startswith(b"STAT")
        assert line.ask(b"stats settings\r\n").startswith(b"STAT")
        assert line.ask(b"verbosity 2\r\n") == b"OK"
    line.send(b"quit\r\n")
    assert not line.socket.recv(1)


def keyless():
    """Who begins with a command that has no key: what watches a server does nothing else."""
    for command in (b"version\r\n", b"stats\r\n", b"stats settings\r\n", b"flush_all 3600\r\n"):
        for _ in range(COUNT):
            line = Line()
            line.ask(command)
            line.ask(command)


def errors():
    line = Line()
    for _ in range(COUNT):
        line.ask(store("set", key("word"), b"word"))
        assert line.ask(f"incr {key('word')} 1\r\n".encode()).startswith(b"CLIENT_ERROR")
        assert line.ask(b"nonsense\r\n") == b"ERROR"
        assert line.ask(f"get {'k' * 251}\r\n".encode()).startswith(b"CLIENT_ERROR")
        assert line.ask(store("set", key("huge"), bytes(TOO_LARGE))).startswith(b"SERVER_ERROR")
        assert line.ask(f"touch {key('word')} nonsense\r\n".encode()).startswith(b"CLIENT_ERROR")
        line.ask(f"get {key('word')}\r\n".encode())


def pieces():
    """Byte by byte, and in halves at every place."""
    line = Line()
    # Of whose first segment is too short to know it by, nobody knows what it is.
    line.ask(f"get {key('a')}\r\n".encode())
    asked = [store("set", key("a"), b"some text"), f"get {key('a')} {key('b')}\r\n".encode(), f"mg {key('a')} v\r\n".encode()]
    for _ in range(COUNT):
        for whole in asked:
            for byte in whole:
                line.socket.sendall(bytes([byte]))
            line.reply()
    for whole in asked:
        for at in range(1, len(whole)):
            line.send(whole[:at])
            line.send(whole[at:])
            line.reply()


def pipeline():
    """Many at once, and all of it before the first answer is read."""
    line = Line()
    kinds = [
        store("set", key("a"), b"7"),
        f"get {key('a')}\r\n".encode(),
        f"get {key('nothing')}\r\n".encode(),
        f"incr {key('a')} 1\r\n".encode(),
        b"nonsense\r\n",
    ]
    for at in range(0, COUNT, 50):
        some = range(at, min(at + 50, COUNT))
        line.send(b"".join(kinds[number % len(kinds)] for number in some))
        for _ in some:
            line.reply()
    line.send(kinds[1] * COUNT)
    for _ in range(COUNT):
        line.reply()


def large():
    line = Line()
    value = (b"END\r\nVALUE key 0 3\r\n" * LARGE)[:LARGE]
    for number in range(COUNT):
        assert line.ask(store("set", key("large"), value)) == b"STORED"
        line.ask(f"get {key('large')}\r\n".encode())
        line.ask(f"get {key('large')} {key('nothing')} {key('large')}\r\n".encode())
        line.ask(f"mg {key('large')} v\r\n".encode())
        line.ask(store("append", key("large"), b"x" * 100))
        line.ask(f"delete {key('large')}\r\n".encode())


def meta():
    line = Line()
    for _ in range(COUNT):
        assert line.ask(f"ms {key('m')} 4 T60\r\ndata\r\n".encode()).startswith(b"HD")
        assert line.ask(f"mg {key('m')} v t f\r\n".encode()).startswith(b"VA")
        assert line.ask(f"mg {key('m')} t\r\n".encode()).startswith(b"HD")
        assert line.ask(f"mg {key('nothing')} v\r\n".encode()) == b"EN"
        assert line.ask(f"ms {key('n')} 1\r\n7\r\n".encode()).startswith(b"HD")
        assert line.ask(f"ma {key('n')} v D3\r\n".encode()).startswith(b"VA")
        assert line.ask(f"md {key('n')}\r\n".encode()).startswith(b"HD")
        assert line.ask(f"md {key('n')}\r\n".encode()).startswith(b"NF")
        assert line.ask(f"me {key('m')}\r\n".encode()).startswith(b"ME")
        assert line.ask(b"mn\r\n") == b"MN"


def packed(opcode, name="", extras=b"", value=b""):
    name = key(name).encode() if name else b""
    length = len(name) + len(extras) + len(value)
    return struct.pack(HEADER, 0x80, opcode, len(name), len(extras), 0, 0, length, 7, 0) + extras + name + value


GET, SET, ADD, DELETE, INCREMENT, NOOP, VERSION, APPEND, STAT, TOUCH = 0, 1, 2, 4, 5, 10, 11, 14, 16, 28
STORES, COUNTS = bytes(8), struct.pack(">QQI", 1, 0, 0)


def binary():
    line = Line()
    for _ in range(COUNT):
        for opcode, whole in [
            (SET, packed(SET, "a", STORES, b"value")),
            (GET, packed(GET, "a")),
            (GET, packed(GET, "nothing")),
            (ADD, packed(ADD, "a", STORES, b"again")),
            (APPEND, packed(APPEND, "a", b"", b"more")),
            # What is no number cannot be counted up.
            (INCREMENT, packed(INCREMENT, "a", COUNTS)),
            (INCREMENT, packed(INCREMENT, "number", COUNTS)),
            (TOUCH, packed(TOUCH, "a", bytes(4))),
            (DELETE, packed(DELETE, "number")),
            (VERSION, packed(VERSION)),
            (NOOP, packed(NOOP)),
        ]:
            line.send(whole)
            line.answer(opcode)
        # As many as there are, up to one without a name, and all of them one reply.
        line.send(packed(STAT))
        while line.header()[2]:
            pass
        ANSWERS["ok"] += 1
        # Several at once, and in pieces.
        line.send(packed(SET, "b", STORES, b"x" * 100) + packed(GET, "b") * 20)
        for opcode in [SET] + [GET] * 20:
            line.answer(opcode)
        for byte in packed(SET, "b", STORES, b"pieces"):
            line.socket.sendall(bytes([byte]))
        line.answer(SET)


def silent():
    """Commands that ask for no answer, and quiet ones that have none where all is well."""
    line = Line()
    for number in range(COUNT):
        line.ask(store("set", key("a"), b"7"))
        line.send(store("set", key("a"), b"8", " noreply"))
        line.send(f"incr {key('a')} 1 noreply\r\ntouch {key('a')} 60 noreply\r\n".encode())
        line.ask(f"get {key('a')}\r\n".encode())
        line.send(f"delete {key('a')} noreply\r\n".encode())
        # A miss says nothing; its neighbour does.
        line.send(f"mg {key('nothing')} v q\r\nmn\r\n".encode())
        assert line.reply() == b"MN"


def held():
    """Connections that are older than who looks: idle, and in the middle of a command."""
    line, middle, packets = Line(), Line(), Line()
    # Before anybody looks, these do not count.
    line.ask(store("set", key("a"), b"7"))
    ANSWERS["ok"] = 0
    half = store("set", key("b"), b"in the middle")
    middle.send(half[:-9])
    print("ready", flush=True)
    sys.stdin.readline()
    middle.send(half[-9:])
    middle.line()
    for _ in range(COUNT):
        line.ask(f"get {key('a')}\r\n".encode())
        assert line.ask(f"get {key('a')} {'k' * 251}\r\n".encode()).startswith(b"CLIENT_ERROR")
        middle.ask(f"get {key('b')}\r\n".encode())
        packets.send(packed(GET, "a"))
        packets.answer(GET)


def noise():
    """Nothing that anybody could understand, from the begin."""
    for number in range(COUNT):
        with socket.create_connection((ADDRESS, PORT), 60) as line:
            line.sendall(bytes((number * 37 + index * 101 + 1) % 128 for index in range(300)) + b"\r\n")
            line.shutdown(socket.SHUT_WR)
            try:
                while line.recv(CHUNK):
                    pass
            except ConnectionResetError:
                pass


def changes():
    """Memcached, and then something else, both ways."""
    line = Line()
    for _ in range(COUNT):
        line.ask(b"get switch\r\n")
    line.ask(b"get now\r\n")
    for number in range(50):
        line.send(bytes([200 + number]) * 33)
        line.exactly(77)


def serve():
    """Answers as Memcached does until it is told to switch."""
    listener = socket.create_server((ADDRESS, PORT))
    print("ready", flush=True)
    connection, _ = listener.accept()
    got = b""
    while b"now" not in got:
        got = connection.recv(CHUNK)
        connection.sendall(b"END\r\n")
    while connection.recv(33, socket.MSG_WAITALL):
        connection.sendall(bytes(range(150, 227)))
    print("{}")


ADDRESS, PORT, WAY, COUNT = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
ANSWERS = {"ok": 0, "failed": 0}
globals()[WAY]()
print(json.dumps(list(ANSWERS.items())))
