#!/usr/bin/python3
"""Writes what the fuzz targets begin with: whole messages of each protocol, framed as the targets read them.

seeds.py FOLDER: a folder for each target there, and a file for each seed in it.
"""
import json
import pathlib
import struct
import sys

HERE = pathlib.Path(__file__).parent
CLIENT, SERVER = 1, 0


def command(*words):
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


def message(kind, body=b""):
    return kind + struct.pack(">I", len(body) + 4) + body


def binary(opcode, key=b"", extras=b"", value=b"", magic=0x80):
    body = extras + key + value
    return struct.pack(">BBHBBHIIQ", magic, opcode, len(key), len(extras), 0, 0, len(body), 0, 0) + body


# Each is a conversation: who speaks, and what.
HTTP = [
    [(CLIENT, b"GET /a?b=c HTTP/1.1\r\nHost: a\r\n\r\n"), (SERVER, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")],
    [
        (CLIENT, b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"),
        (SERVER, b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (SERVER, b"3\r\nabc\r\n0\r\nTrailer: x\r\n\r\n"),
    ],
    [
        (CLIENT, b"PUT /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n4;ext\r\nabcd\r\n0\r\n\r\n" + b"HEAD /h HTTP/1.0\r\n\r\n"),
        (SERVER, b"HTTP/1.1 204 No Content\r\n\r\nHTTP/1.0 200 OK\r\nContent-Length: 7\r\n\r\n"),
    ],
    [
        (CLIENT, b"GET /ws HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"),
        (SERVER, b"HTTP/1.1 101 Switching Protocols\r\n\r\n\x81\x02hi"),
    ],
    [(CLIENT, b"CONNECT a:443 HTTP/1.1\r\n\r\n"), (SERVER, b"HTTP/1.1 200 OK\r\n\r\n")],
    [(CLIENT, b"GET http://a/health HTTP/1.1\r\n\r\n"), (SERVER, b"HTTP/1.1 304 Not Modified\r\n\r\n"), (CLIENT, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")],
]
REDIS = [
    [(CLIENT, command(b"GET", b"key")), (SERVER, b"$5\r\nhello\r\n")],
    [(CLIENT, command(b"SET", b"k", b"v") * 3 + b"PING\r\n"), (SERVER, b"+OK\r\n-ERR no\r\n:1\r\n+PONG\r\n")],
    [
        (CLIENT, command(b"SUBSCRIBE", b"a", b"b")),
        (SERVER, b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n*3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n"),
        (SERVER, b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$2\r\nhi\r\n"),
        (CLIENT, command(b"UNSUBSCRIBE")),
        (SERVER, b"*3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:1\r\n*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n"),
    ],
    [
        (CLIENT, command(b"HELLO", b"3") + command(b"HGETALL", b"h")),
        (SERVER, b"%1\r\n+server\r\n+redis\r\n>2\r\n+invalidate\r\n_\r\n|1\r\n+ttl\r\n:3\r\n~2\r\n#t\r\n,1.5\r\n"),
    ],
    [(CLIENT, command(b"CLIENT", b"REPLY", b"SKIP") + command(b"GET", b"k")), (CLIENT, command(b"MONITOR")), (SERVER, b'+OK\r\n+1.2 [0 a:1] "GET"\r\n')],
    [(CLIENT, command(b"MULTI") + command(b"INCR", b"n") + command(b"EXEC")), (SERVER, b"+OK\r\n+QUEUED\r\n*1\r\n:1\r\n")],
    [(CLIENT, command(b"PSYNC", b"?", b"-1")), (SERVER, b"\n+FULLRESYNC 0 0\r\n$3\r\nRDB")],
]
START = struct.pack(">II", 15, 196608) + b"user\0a\0"
READY = message(b"Z", b"I")
ROWS = message(b"T", b"\0\0") + message(b"D", b"\0\1\0\0\0\1" + b"1") + message(b"C", b"SELECT 1\0")
POSTGRES = [
    [(CLIENT, START), (SERVER, message(b"R", b"\0\0\0\0") + READY), (CLIENT, message(b"Q", b"SELECT 1\0")), (SERVER, ROWS + READY)],
    [
        (CLIENT, message(b"P", b"s\0SELECT $1\0\0\0") + message(b"B", b"\0s\0\0\0\0\0\0\0") + message(b"D", b"P\0") + message(b"E", b"\0\0\0\0\0") + message(b"S")),
        (SERVER, message(b"1") + message(b"2") + ROWS + READY),
        (CLIENT, message(b"B", b"\0s\0\0\0\0\0\0\0") + message(b"E", b"\0\0\0\0\0") + message(b"C", b"Ss\0") + message(b"H")),
        (SERVER, message(b"2") + message(b"E", b"SERROR\0C42P01\0\0")),
    ],
    [
        (CLIENT, message(b"Q", b"COPY t FROM STDIN\0")),
        (SERVER, message(b"G", b"\0\0\0")),
        (CLIENT, message(b"d", b"row\n") + message(b"c")),
        (SERVER, message(b"N", b"\0") + message(b"C", b"COPY 1\0") + READY),
        (CLIENT, message(b"X")),
    ],
    [(CLIENT, struct.pack(">II", 8, 80877103)), (SERVER, b"N"), (CLIENT, START), (SERVER, message(b"R", b"\0\0\0\3")), (CLIENT, message(b"p", b"x\0"))],
]
MEMCACHED = [
    [(CLIENT, b"get a b\r\n"), (SERVER, b"VALUE a 0 2\r\nhi\r\nEND\r\n")],
    [(CLIENT, b"set a 0 60 2\r\nhi\r\nset b 0 0 1 noreply\r\nx\r\nincr n 5\r\n"), (SERVER, b"STORED\r\nNOT_FOUND\r\n")],
    [(CLIENT, b"mg foo v q\r\nms foo 2 T0\r\nhi\r\nmd foo\r\nmn\r\n"), (SERVER, b"VA 2\r\nhi\r\nHD\r\nNF\r\nMN\r\n")],
    [(CLIENT, b"stats\r\ngats 30 a\r\ndelete a\r\n"), (SERVER, b"STAT pid 1\r\nEND\r\nEND\r\nSERVER_ERROR out of memory\r\n")],
    [(CLIENT, binary(0, b"foo") + binary(9, b"q") + binary(1, b"k", b"\0" * 8, b"v")), (SERVER, binary(0, b"", b"\0" * 4, b"hi", 0x81) + binary(1, magic=0x81))],
]


def talks(of, head, piece):
    """`piece`: the frame before so many bytes of a side."""
    for talk in of:
        yield head + b"".join(piece(side, said) + said for side, said in talk)
        halves = [(side, half) for side, said in talk for half in (said[: len(said) // 2], said[len(said) // 2 :])]
        yield head + b"".join(piece(side, said) + said for side, said in halves if said)


def question(name=b"\1a\2bc\0", kind=1):
    return struct.pack(">HHHHHH", 7, 0x100, 1, 0, 0, 0) + name + struct.pack(">HH", kind, 1)


def answer(kind=1, data=b"\x0a\0\0\1", code=0):
    head = struct.pack(">HHHHHH", 7, 0x8180 | code, 1, 1, 0, 0)
    return head + question(kind=kind)[12:] + struct.pack(">HHHIH", 0xC00C, kind, 1, 60, len(data)) + data


def dns():
    for asked, answered in [(question(), answer()), (question(kind=28), answer(28, b"\xfd" + b"\0" * 15)), (question(), answer(5, b"\1x\0", 3))]:
        datagrams = [(2, asked), (0, answered)]
        stream = [(3, struct.pack(">H", len(said)) + said) if way else (1, struct.pack(">H", len(said)) + said) for way, said in datagrams]
        for segments in datagrams, stream:
            yield b"".join(bytes([flags, 0, 0, 1, len(said), 0]) + said for flags, said in segments)


def btf():
    names = [b"", b"int", b"sock", b"sk_protocol", b"btf_trace_sched_process_exit"]
    at = {name: sum(len(before) + 1 for before in names[:index]) for index, name in enumerate(names)}

    def kind(name, kind, count, size, rest=b""):
        return struct.pack("<III", at[name], kind << 24 | count, size) + rest

    types = kind(b"int", 1, 0, 4, struct.pack("<I", 32))
    types += kind(b"sock", 4, 1, 4, struct.pack("<III", at[b"sk_protocol"], 1, 0))
    types += kind(b"", 2, 0, 2)
    types += kind(b"", 13, 2, 0, struct.pack("<IIII", 0, 3, 0, 3))
    types += kind(b"", 2, 0, 4) + kind(b"btf_trace_sched_process_exit", 8, 0, 5)
    strings = b"".join(name + b"\0" for name in names)
    yield struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(strings)) + types + strings


def inet_diag():
    for family, state, info in [(2, 1, 232), (10, 10, 104), (2, 6, 0)]:
        body = struct.pack("BBBB", family, state, 0, 0) + struct.pack(">HH", 80, 4000) + bytes(range(32)) + bytes(32)
        attribute = struct.pack("<HH", 4 + info, 2) + bytes(index % 7 for index in range(info)) if info else b""
        row = struct.pack("<IHHII", 16 + len(body + attribute), 20, 2, 0, 0) + body + attribute
        yield row + struct.pack("<IHHIIi", 20, 3, 2, 0, 0, 0)
    yield struct.pack("<IHHIIi", 36, 2, 0, 0, 0, -13) + bytes(16)


def frames(path):
    recording = path.read_bytes()
    at = recording.index(b"\n") + 1
    while at < len(recording):
        tag, length = struct.unpack_from("<BI", recording, at)
        yield tag, recording[at : at + 5 + length]
        at += 5 + length


PREAMBLE, BATCH = 1, 2


def recorded():
    for path in sorted((HERE / "../recordings/kinds").glob("*.rec")):
        yield from frames(path)


def recording():
    """Of each tag the shortest frames."""
    by_tag = {}
    for tag, frame in recorded():
        by_tag.setdefault(tag, set()).add(frame)
    for tag, some in by_tag.items():
        if tag != PREAMBLE:
            yield from [frame for frame in sorted(some, key=lambda frame: (len(frame), frame))[:6] if len(frame) < 2048]
    for cgroup in [b"/a", b"/system.slice/b.service"]:
        parts = [records([(4, struct.pack("<Qq", 5, len(cgroup) + 1) + cgroup.ljust(256, b"\0"))]), b"", b"", b"", b""]
        batch = struct.pack("<QQQ", 9, 9, 9) + b"".join(struct.pack("<I", len(part)) + part for part in parts)
        yield struct.pack("<BI", BATCH, len(batch)) + batch


def records(of):
    return b"".join(struct.pack("<QHHI", 9, kind, 0, 16 + len(body)) + body for kind, body in of)


def news():
    owner = struct.pack("<QQII", 3, 5, 7, 0) + b"worker".ljust(16, b"\0")
    process = owner + struct.pack("<Ii", 1, 0)
    cgroup = struct.pack("<Qq", 5, 3) + b"/a".ljust(256, b"\0")
    yield records([(kind, process) for kind in (0, 1, 3, 2)] + [(4, cgroup), (5, cgroup)])
    kinds = set()
    for tag, frame in recorded():
        if tag != BATCH:
            continue
        at = 5 + 24
        while at + 4 <= len(frame):
            (length,) = struct.unpack_from("<I", frame, at)
            part, at = frame[at + 4 : at + 4 + length], at + 4 + length
            while len(part) >= 16:
                _, kind, _, size = struct.unpack_from("<QHHI", part)
                if size < 16 or size > len(part):
                    break
                if kind not in kinds:
                    kinds.add(kind)
                    yield part[:size]
                part = part[size:]


def cgroup_file():
    container = "docker-" + "0123456789abcdef" * 4 + ".scope"
    pod = "kubepods-burstable-pod0a1b2c3d_0000_1111_2222_333344445555.slice"
    paths = [
        "/",
        "/user.slice/user-1000.slice/session-1.scope",
        "/system.slice/a.service/payload",
        f"/system.slice/{container}",
        f"/kubepods.slice/kubepods-burstable.slice/{pod}/cri-containerd-{'ab' * 32}.scope",
        f"/../../lxc.payload.web/{container} (deleted)",
        f"/machine.slice/libpod-{'cd' * 32}.scope/container",
    ]
    for path in paths:
        yield f"0::{path}\n".encode()
        yield f"12:cpu,cpuacct:{path}\n3:name=systemd:{path}\n0::/\n".encode()


def proc_tcp():
    rest = "00000000:00000000 00:00000000 00000000     0        0 {inode} 1 0000000000000000 100 0 0 10 0"
    yield f"   0: 0100007F:1F90 00000000:0000 0A {rest.format(inode=4242)}".encode()
    yield f"   1: {'0' * 24}01000000:0050 {'0' * 16}FFFF00000100007F:BEEF 01 {rest.format(inode=7)}".encode()


def runtime_metadata():
    log = "/var/log/pods/a_b_c/d/0.log"
    spec = {
        "annotations": {"io.kubernetes.cri.container-name": "c", "nerdctl/name": "n", "io.kubernetes.container.logPath": log},
        "process": {"env": ["A=b", "NOMAD_TASK_NAME=t", "wrong"]},
        "mounts": [{"source": "/srv/a", "destination": "/a"}, {"source": "/var/lib/kubelet/pods/x/volumes/kubernetes.io~csi/pvc-1/mount", "destination": "/b"}],
    }
    yield json.dumps(spec).encode()
    yield json.dumps({"metadata": {"config": {"metadata": {"name": "c"}, "log_path": "d/0.log"}, "logPath": log}}).encode()
    yield json.dumps({"name": "c", "pid": 7, "image": "i", "labels": {"a": "b"}, "annotations": {"io.kubernetes.cri-o.Volumes": "[]"}, "log_path": log}).encode()


def sql():
    yield from [
        b"SELECT a, \"b\" FROM t WHERE c = 'it''s' AND d IN (1, 2.5e3, 0x1f) -- end",
        b"INSERT INTO t VALUES ($1, E'\\'', $tag$ a 'b' $tag$, U&'x') /* a /* b */ c */ RETURNING *",
        b"UPDATE t SET a = a + 1 WHERE b = B'101'; DELETE FROM u",
        b"WITH x AS (SELECT 1) SELECT * FROM x; COPY t FROM STDIN",
    ]


def exchange():
    """A byte of settings, then each segment behind its head."""
    for talk in HTTP + REDIS + POSTGRES + MEMCACHED:
        yield b"\0" + b"".join(bytes([1 if side == CLIENT else 0, 1, len(said)]) + said for side, said in talk)


SEEDS = {
    "btf": btf(),
    "cgroup_file": cgroup_file(),
    "dns": dns(),
    "exchange": exchange(),
    "http": talks(HTTP, b"", lambda side, said: bytes([side | 32, len(said), 0])),
    "inet_diag": inet_diag(),
    "memcached": talks(MEMCACHED, b"\1\0\0", lambda side, said: bytes([side | 2, len(said), 0])),
    "news": news(),
    "postgres": talks(POSTGRES, b"", lambda side, said: bytes([side | 8, 1, len(said)])),
    "proc_tcp": proc_tcp(),
    "recording": recording(),
    "redis": talks(REDIS, b"\1\0\0", lambda side, said: bytes([side | 2, len(said), 0])),
    "runtime_metadata": runtime_metadata(),
    "sql": sql(),
}

for target, seeds in SEEDS.items():
    folder = pathlib.Path(sys.argv[1]) / target
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds):
        (folder / f"seed-{number:02}").write_bytes(seed)
