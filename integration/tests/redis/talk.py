#!/usr/bin/python3
"""Talks to a Redis server in ways that no client library does. Prints how many commands were answered, and with what:
what it was told itself.

talk.py ADDRESS PORT WAY COUNT
"""
import json
import socket
import sys


class Line:
    """One connection, and the values that come over it."""

    def __init__(self):
        self.socket = socket.create_connection((ADDRESS, PORT), 60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.pushes = 0

    def send(self, *commands):
        # In pieces that are read whole wherever they are looked at.
        whole = b"".join(commands)
        for at in range(0, len(whole), 1 << 15):
            self.socket.sendall(whole[at : at + (1 << 15)])

    def more(self):
        got = self.socket.recv(1 << 15)
        if not got:
            raise EOFError
        self.buffer += got

    def line(self):
        while b"\r\n" not in self.buffer:
            self.more()
        line, self.buffer = self.buffer.split(b"\r\n", 1)
        return line

    def exactly(self, length):
        while len(self.buffer) < length:
            self.more()
        got, self.buffer = self.buffer[:length], self.buffer[length:]
        return got

    def value(self):
        line = self.line()
        kind, rest = line[:1], line[1:]
        if kind in b"$=!":
            return None if rest == b"-1" else (kind, self.exactly(int(rest) + 2)[:-2])
        if kind in b"*~>%":
            length = max(int(rest), 0) * (2 if kind == b"%" else 1)
            return kind, [self.value() for _ in range(length)]
        return kind, rest

    def reply(self):
        """The next value that is no push."""
        while True:
            value = self.value()
            if value is None or value[0] != b">":
                return value
            self.pushes += 1

    def answered(self, count=1):
        for _ in range(count):
            value = self.reply()
            failed = value is not None and value[0] in b"-!"
            ANSWERS["failed" if failed else "ok"] += 1
        return value

    def ask(self, *words):
        self.send(command(*words))
        return self.answered()


def command(*words):
    words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


def single(line, whole):
    for byte in whole:
        line.socket.sendall(bytes([byte]))


def pieces():
    """Byte by byte, and in halves at every place."""
    line = Line()
    for _ in range(COUNT):
        for whole in [command("SET", "pieces", "some\r\nvalue"), command("GET", "pieces"), command("INCR", "pieces")]:
            single(line, whole)
            line.answered()
    whole = command("SET", "halves", "x" * 20)
    for at in range(1, len(whole)):
        line.socket.sendall(whole[:at])
        line.socket.sendall(whole[at:])
        line.answered()
        # Two whole ones and the begin of a third.
        line.socket.sendall(whole + whole + whole[:at])
        line.answered(2)
        line.socket.sendall(whole[at:])
        line.answered()


def first():
    """The first command of a connection comes byte by byte."""
    for _ in range(COUNT):
        line = Line()
        single(line, command("PING"))
        line.answered()


def large():
    line = Line()
    value = b"\r\n*1\r\n$4\r\nPING\r\n" * (1 << 16)
    for _ in range(COUNT):
        assert line.ask("SET", "large", value) == (b"+", b"OK")
        assert line.ask("GET", "large") == (b"$", value)
        assert line.ask("STRLEN", "large") == (b":", b"%d" % len(value))
    # All of it in one call.
    line.socket.sendall(command("SET", "large", value))
    line.answered()


def pipeline():
    line = Line()
    one = command("SET", "pipeline", "1") + command("GET", "pipeline") + command("LPUSH", "pipeline", "x")
    one += command("HGETALL", "nothing")
    line.send(one * (COUNT // 4))
    line.answered(COUNT)
    # And goes on as everybody does.
    for _ in range(20):
        line.ask("PING")


def errors():
    line = Line()
    line.ask("SET", "text", "x")
    for _ in range(COUNT):
        for wrong in [("LPUSH", "text", "x"), ("NOSUCHCOMMAND",), ("GET",), ("INCR", "text")]:
            assert line.ask(*wrong)[0] == b"-"
        line.ask("GET", "text")


def transaction():
    line = Line()
    for number in range(COUNT):
        line.ask("MULTI")
        assert line.ask("SET", "transaction", number) == (b"+", b"QUEUED")
        line.ask("LPUSH", "transaction", "fails only inside")
        line.ask("EXEC")
        line.ask("MULTI")
        line.ask("NOSUCHCOMMAND")
        assert line.ask("EXEC")[0] == b"-"
    # All in one.
    line.send(command("MULTI"), command("INCR", "transaction"), command("INCR", "transaction"), command("EXEC"))
    line.answered(4)


def heard(line, count):
    """News of channels, which are arrays where there are no pushes."""
    for _ in range(count):
        kind, parts = line.value()
        assert kind in b"*>" and parts[0][1] in (b"message", b"pmessage"), parts


def subscriptions():
    listener, speaker = Line(), Line()
    listener.ask("PING")
    listener.send(command("SUBSCRIBE", "one", "two", "three"))
    listener.answered()
    for _ in range(2):
        assert listener.value()[1][0][1] == b"subscribe"
    listener.ask("PSUBSCRIBE", "on*")
    for _ in range(COUNT):
        speaker.ask("PUBLISH", "one", "news")
    heard(listener, 2 * COUNT)
    listener.ask("PING")
    listener.send(command("UNSUBSCRIBE"))
    listener.answered()
    for _ in range(2):
        listener.value()
    listener.ask("PUNSUBSCRIBE", "on*")
    listener.ask("PING")
    assert listener.ask("GET", "nothing") is None


def pushes():
    listener, speaker = Line(), Line()
    listener.ask("HELLO", "3")
    listener.send(command("SUBSCRIBE", "push"))
    # This answer is a push.
    assert listener.value()[0] == b">"
    ANSWERS["ok"] += 1
    for _ in range(COUNT):
        speaker.ask("PUBLISH", "push", "news")
        listener.ask("PING")
    while listener.pushes < COUNT:
        assert listener.value()[0] == b">"
        listener.pushes += 1
    for wanted in [("HGETALL", "nothing"), ("GET", "nothing"), ("LPUSH", "push")]:
        listener.ask(*wanted)


def monitor():
    watcher, speaker = Line(), Line()
    watcher.ask("MONITOR")
    for number in range(COUNT):
        speaker.ask("SET", "monitor", number)
    while b'"monitor" "%d"' % (COUNT - 1) not in watcher.line():
        pass


def inline():
    """Lines, as one types them. The first command is none: of lines alone nobody would know what they are."""
    line = Line()
    line.ask("PING")
    for _ in range(COUNT):
        line.send(b"SET inline 'a value'\r\n")
        line.answered()
        line.send(b"PING\n")
        line.answered()
        line.send(b"LPUSH inline x\r\nGET inline\r\n\r\nPING\r\n")
        line.answered(3)
    line.ask("GET", "inline")


def held():
    """A connection that waits for a line before most of its commands, and one that is in the middle of one then."""
    line, middle = Line(), Line()
    # Before anybody looks, these do not count.
    for _ in range(5):
        line.send(command("PING"))
        line.reply()
    middle.send(command("SET", "held", "x" * 50)[:20])
    print("ready", flush=True)
    sys.stdin.readline()
    middle.send(command("SET", "held", "x" * 50)[20:])
    middle.reply()
    for _ in range(COUNT):
        line.ask("INCR", "held counter")
        middle.ask("GET", "held")
    line.send(command("GET", "held") * COUNT)
    line.answered(COUNT)


def silence():
    """Commands that are not answered, for the client said so."""
    line = Line()
    for _ in range(COUNT):
        line.ask("PING")
    line.send(command("CLIENT", "REPLY", "OFF"))
    for _ in range(COUNT):
        line.send(command("INCR", "silence"))
    line.ask("CLIENT", "REPLY", "ON")
    for _ in range(COUNT):
        line.ask("PING")
    line.send(command("CLIENT", "REPLY", "SKIP") + command("PING") + command("GET", "silence"))
    marker, _ = line.answered()
    assert marker == b"$"


def one_write():
    """More in one call than is looked at."""
    line = Line()
    line.ask("PING")
    line.socket.sendall(command("SET", "one write", "x" * 30) * COUNT)
    line.answered(COUNT)


def garbage():
    line = Line()
    for _ in range(COUNT):
        line.ask("PING")
    line.send(b"*2\r\n$many\r\nnonsense\r\n")
    assert line.value()[0] == b"-", "the server knows no such command"
    try:
        line.value()
    except (EOFError, ConnectionResetError):
        return
    raise AssertionError("the server goes on")


def noise():
    """Nothing that anybody could understand, from the begin. The server says so, and hangs up."""
    for number in range(COUNT):
        line = Line()
        line.send(bytes((number * 37 + index * 101) % 256 for index in range(300)) + b"\r\n")
        line.socket.shutdown(socket.SHUT_WR)
        try:
            while line.socket.recv(1 << 15):
                pass
        except ConnectionResetError:
            pass


def changes():
    """Redis, and then something else, both ways."""
    line = Line()
    for _ in range(COUNT):
        line.ask("PING")
    line.send(command("SWITCH"))
    line.answered()
    for number in range(50):
        line.send(bytes([200 + number]) * 33)
        line.exactly(77)


def serve():
    """Speaks as Redis does until it is told to switch."""
    listener = socket.create_server((ADDRESS, PORT))
    print("ready", flush=True)
    connection, _ = listener.accept()
    while True:
        got = connection.recv(1 << 15)
        if b"SWITCH" in got:
            break
        connection.sendall(b"+PONG\r\n")
    connection.sendall(b"-ERR something else now\r\n")
    while connection.recv(33, socket.MSG_WAITALL):
        connection.sendall(bytes(range(150, 227)))
    print("{}")


ADDRESS, PORT, WAY, COUNT = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
ANSWERS = {"ok": 0, "failed": 0}
globals()[WAY]()
print(json.dumps(list(ANSWERS.items())))
