#!/usr/bin/python3
"""Speaks to a PostgreSQL server message by message, in ways that no client library does. Prints how many requests were
answered, and with what: what it was told itself.

speak.py ADDRESS PORT WAY COUNT
"""
import json
import socket
import struct
import sys

CHUNK = 1 << 15


def message(kind, body=b""):
    return kind + struct.pack(">I", len(body) + 4) + body


def text(what):
    return what.encode() + b"\0"


def query(sql):
    return message(b"Q", text(sql))


def parse(sql, name=""):
    return message(b"P", text(name) + text(sql) + struct.pack(">H", 0))


def bind(*values, name=""):
    body = text("") + text(name) + struct.pack(">HH", 0, len(values))
    for value in values:
        body += struct.pack(">I", len(value)) + value
    return message(b"B", body + struct.pack(">H", 0))


def describe(what):
    return message(b"D", what)


def execute(rows=0):
    return message(b"E", text("") + struct.pack(">I", rows))


SYNC, FLUSH = message(b"S"), message(b"H")


class Line:
    def __init__(self):
        self.socket = socket.create_connection((ADDRESS, PORT), 60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        body = struct.pack(">I", 196608) + b"user\0tester\0database\0postgres\0\0"
        self.socket.sendall(struct.pack(">I", len(body) + 4) + body)
        while True:
            kind, body = self.message()
            if kind == b"K":
                self.key = body
            if kind == b"Z":
                return

    def send(self, *messages):
        # In pieces that are read whole wherever they are looked at.
        whole = b"".join(messages)
        for at in range(0, len(whole), CHUNK):
            self.socket.sendall(whole[at : at + CHUNK])

    def exactly(self, length):
        pieces = [self.buffer]
        have = len(self.buffer)
        while have < length:
            got = self.socket.recv(CHUNK)
            if not got:
                raise EOFError
            pieces.append(got)
            have += len(got)
        whole = b"".join(pieces)
        self.buffer = whole[length:]
        return whole[:length]

    def message(self):
        head = self.exactly(5)
        return head[:1], self.exactly(struct.unpack(">I", head[1:])[0] - 4)

    def until(self, wanted):
        """The kinds up to that one, rows and notices left out."""
        kinds = b""
        while not kinds.endswith(wanted):
            kind, self.last = self.message()
            if kind not in b"DdNA":
                kinds += kind
        return kinds

    def one(self):
        """One request, answered when the server is ready."""
        kinds = self.until(b"Z")
        ANSWERS["failed" if b"E" in kinds else "ok"] += 1
        return kinds

    def batch(self, executes):
        """What follows an error is passed over, and has failed with it."""
        kinds = self.until(b"Z")
        done = sum(kinds.count(end) for end in (b"C", b"s", b"I"))
        assert done == executes or (b"E" in kinds and done < executes), kinds
        ANSWERS["ok"] += done
        ANSWERS["failed"] += executes - done
        return kinds

    def ask(self, sql):
        self.send(query(sql))
        return self.one()

    def run(self, sql, *values):
        self.send(parse(sql), bind(*values), describe(b"P\0"), execute(), SYNC)
        return self.batch(1)


def single(line, whole):
    for byte in whole:
        line.socket.sendall(bytes([byte]))


def pieces():
    """Byte by byte, and in halves at every place."""
    line = Line()
    extended = parse("select $1::int") + bind(b"1") + describe(b"P\0") + execute() + SYNC
    for _ in range(COUNT):
        single(line, query("select 1"))
        line.one()
        single(line, extended)
        line.batch(1)
    for whole in [query("select 'some text'"), extended]:
        for at in range(1, len(whole)):
            line.send(whole[:at])
            line.send(whole[at:])
            line.one()


def simple():
    line = Line()
    for _ in range(COUNT):
        line.ask("select 1")
        assert line.ask("select 1; select 2; select 3").count(b"C") == 3
        assert b"I" in line.ask("")
        line.ask("do $$ begin raise notice 'something'; end $$")
        line.ask("select generate_series(1, 2000)")


def errors():
    line = Line()
    for _ in range(COUNT):
        assert b"E" in line.ask("selec nonsense")
        assert line.ask("select 1; select 1 / 0; select 2") == b"TCEZ"
        # Known only after a row has come.
        line.ask("select 1 / (5000 - n) from generate_series(1, 6000) n")
        line.ask("begin")
        line.ask("select 1 / 0")
        assert b"E" in line.ask("select 1")
        line.ask("rollback")
        line.run("selec nonsense")
        line.run("select 1 / 0")
        line.run("select 1")


def extended():
    line = Line()
    for number in range(COUNT):
        # Prepared, described and executed apart, as drivers do.
        name = f"statement {number}"
        line.send(parse("select $1::text", name), describe(b"S" + text(name)), SYNC)
        line.one()
        for _ in range(5):
            line.send(bind(b"x", name=name), execute(), SYNC)
            line.batch(1)
        line.send(message(b"C", b"S" + text(name)), SYNC)
        assert line.until(b"Z") == b"3Z"
        # Row by row.
        line.send(parse("select generate_series(1, 3)"), bind(), execute(1), execute(1), execute(), SYNC)
        assert line.batch(3) == b"12ssCZ"
        # Answers without an end of the batch.
        line.send(parse("select 1"), bind(), execute(), FLUSH)
        assert line.until(b"C") == b"12C"
        line.send(SYNC)
        ANSWERS["ok"] += 1
        line.until(b"Z")
        # Nothing at all.
        line.send(SYNC)
        line.until(b"Z")
        line.send(parse("selec"), SYNC)
        line.one()
        line.send(parse(""), bind(), execute(), SYNC)
        line.batch(1)


def pipeline():
    """Many batches under way at once, several Syncs in one write; some fail, and what follows them in theirs."""
    line = Line()
    one = parse("select $1::int") + bind(b"7") + describe(b"P\0") + execute()
    fails = parse("select 1 / $1::int") + bind(b"0") + execute()
    unknown = parse("selec") + bind() + execute()
    kinds = [(one, 1), (one * 3, 3), (fails, 1), (one + fails + one, 3), (unknown + one, 2), (one + unknown, 2)]
    batches = [kinds[number % len(kinds)] for number in range(COUNT)]
    for at in range(0, COUNT, 60):
        some = batches[at : at + 60]
        line.send(b"".join(messages + SYNC for messages, _ in some))
        for _, executes in some:
            line.batch(executes)
    # Simple ones too.
    line.send(query("select 1") + query("select 1 / 0") + query("select 2"))
    for _ in range(3):
        line.one()
    line.ask("select 1")


def deep():
    """All of it before the first answer is read. Alike, for what waits is kept by what it is."""
    line = Line()
    line.ask("create temp table deep (a int)")
    one = parse("insert into deep values (1)") + bind() + execute() + SYNC
    line.socket.settimeout(60)
    line.send(one * COUNT)
    for _ in range(COUNT):
        line.batch(1)


def large():
    line = Line()
    size = 1 << 20
    value = b"Q\0\0\0\x09text" * (size // 9)
    value = value.replace(b"\0", b" ").replace(b"\x09", b"Z")
    for _ in range(COUNT):
        line.run("select length($1::text)", value)
        line.ask(f"select repeat('x', {size})")
        line.run(f"select repeat('x', {size}) from generate_series(1, 3)")
        line.ask(f"select length('{value.decode()}')")
        line.ask("select 1")


def copies():
    line = Line()
    line.ask("create temp table copied (a int, b text)")
    rows = b"".join(b"%d\trow\n" % number for number in range(2000))
    for _ in range(COUNT):
        line.send(query("copy copied from stdin"))
        line.until(b"G")
        line.send(message(b"d", rows) + message(b"d", b"7\tr"), message(b"d", b"x" * (1 << 20) + b"\n"))
        line.send(message(b"c"))
        line.one()
        line.send(query("copy copied from stdin"))
        line.until(b"G")
        line.send(message(b"d", b"no number\trow\n"), message(b"c"))
        assert b"E" in line.one()
        line.send(query("copy copied from stdin"))
        line.until(b"G")
        line.send(message(b"f", text("not today")))
        assert b"E" in line.one()
        # As libpq does it: a Sync before the data that nobody answers, one behind.
        line.send(parse("copy copied from stdin"), bind(), describe(b"P\0"), execute(), SYNC)
        line.until(b"G")
        line.send(message(b"d", rows), message(b"c"), SYNC)
        line.batch(1)
        line.ask("copy (select generate_series(1, 5000)) to stdout")
        line.run("copy (select generate_series(1, 5000)) to stdout")
        line.ask("select 1")


def cancelled():
    line = Line()
    for _ in range(COUNT):
        line.send(query("select pg_sleep(60)"))
        # It may come before the query runs, and then nobody heeds it.
        while not select_one(line):
            with socket.create_connection((ADDRESS, PORT), 60) as other:
                other.sendall(struct.pack(">II", 16, 80877102) + line.key)
                other.recv(1)
        assert b"E" in line.one()
        line.ask("select 1")


def select_one(line):
    line.socket.settimeout(0.5)
    try:
        return line.socket.recv(1, socket.MSG_PEEK)
    except TimeoutError:
        return b""
    finally:
        line.socket.settimeout(60)


def news():
    """Words of the server that answer nothing."""
    listener, speaker = Line(), Line()
    listener.ask("listen news")
    for _ in range(COUNT):
        speaker.ask("notify news")
        listener.ask("select 1")
        speaker.ask("set application_name = 'another'")


def held():
    """Connections that are older than who looks: idle, with a statement prepared, and in the middle of a message."""
    line, prepared, middle = Line(), Line(), Line()
    # Before anybody looks, these do not count.
    line.send(query("select 1"))
    line.until(b"Z")
    prepared.send(parse("select $1::text", "name"), SYNC)
    prepared.until(b"Z")
    half = query("select 'in the middle'")
    middle.send(half[:12])
    print("ready", flush=True)
    sys.stdin.readline()
    middle.send(half[12:])
    middle.until(b"Z")
    for _ in range(COUNT):
        line.ask("select 1")
        prepared.send(bind(b"x", name="name"), execute(), SYNC)
        prepared.batch(1)
        middle.ask("select 1 / 0")
    line.run("select 1")


def garbage():
    line = Line()
    for _ in range(COUNT):
        line.ask("select 1")
    line.send(b"!nothing of that kind is known to anybody\0\0\0\0")
    assert b"E" in line.until(b"E")
    try:
        line.message()
    except (EOFError, ConnectionResetError):
        return
    raise AssertionError("the server goes on")


def noise():
    """Nothing that anybody could understand, from the begin."""
    for number in range(COUNT):
        with socket.create_connection((ADDRESS, PORT), 60) as line:
            line.sendall(bytes((number * 37 + index * 101 + 1) % 256 for index in range(300)))
            line.shutdown(socket.SHUT_WR)
            try:
                while line.recv(CHUNK):
                    pass
            except ConnectionResetError:
                pass


def changes():
    """PostgreSQL, and then something else, both ways."""
    line = Line()
    for _ in range(COUNT):
        line.ask("select 1")
    line.ask("switch")
    for number in range(50):
        line.send(bytes([200 + number]) * 33)
        line.exactly(77)


def serve():
    """Answers as PostgreSQL does until it is told to switch."""
    listener = socket.create_server((ADDRESS, PORT))
    print("ready", flush=True)
    connection, _ = listener.accept()
    connection.recv(CHUNK)
    ready = message(b"Z", b"I")
    connection.sendall(message(b"R", bytes(4)) + message(b"K", bytes(8)) + ready)
    got = b""
    while b"switch" not in got:
        got = connection.recv(CHUNK)
        connection.sendall(message(b"C", text("SELECT 1")) + ready)
    while connection.recv(33, socket.MSG_WAITALL):
        connection.sendall(bytes(range(150, 227)))
    print("{}")


ADDRESS, PORT, WAY, COUNT = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
ANSWERS = {"ok": 0, "failed": 0}
globals()[WAY]()
print(json.dumps(list(ANSWERS.items())))
