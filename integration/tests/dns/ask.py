#!/usr/bin/env python3
"""Asks a name server in one of the ways that programs do. Prints, as JSON, how many questions were answered.

ask.py WAY SERVER NAME COUNT
"""
import ctypes
import json
import os
import socket
import struct
import sys


def question(number, name, kind=1):
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack(">6H", number, 0x100, 1, 0, 0, 0) + labels + struct.pack(">BHH", 0, kind, 1)


def check(answer, number):
    assert struct.unpack(">H", answer[:2])[0] == number and answer[2] & 0x80, answer


def datagrams(server):
    made = socket.socket(socket.AF_INET6 if ":" in server else socket.AF_INET, socket.SOCK_DGRAM)
    made.settimeout(10)
    return made


def unconnected(server, name, count):
    """sendto and recvfrom on one socket."""
    with datagrams(server) as line:
        for number in range(count):
            line.sendto(question(number, name), (server, 53))
            check(line.recvfrom(512)[0], number)


def connected(server, name, count):
    """write and read, sendmsg and recvmsg in pieces, and a look (MSG_PEEK) before it is taken."""
    with datagrams(server) as line:
        line.connect((server, 53))
        for number in range(count):
            whole = question(number, name)
            if number % 2:
                os.write(line.fileno(), whole)
                check(line.recv(512, socket.MSG_PEEK), number)
                check(os.read(line.fileno(), 512), number)
            else:
                line.sendmsg([whole[:5], whole[5:12], whole[12:]])
                head, rest = bytearray(3), bytearray(509)
                line.recvmsg_into([head, rest])
                check(bytes(head) + bytes(rest), number)


class Piece(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("len", ctypes.c_size_t)]


class Header(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_void_p),
        ("name_len", ctypes.c_uint32),
        ("pieces", ctypes.POINTER(Piece)),
        ("piece_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_len", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    ]


class Message(ctypes.Structure):
    _fields_ = [("header", Header), ("len", ctypes.c_uint)]


def together(server, name, count):
    """sendmmsg and recvmmsg: several messages in one call, on a socket that is not connected."""
    at_once = 8
    assert count % at_once == 0
    libc = ctypes.CDLL(None, use_errno=True)
    address = struct.pack("=H", socket.AF_INET) + struct.pack(">H", 53) + socket.inet_aton(server) + bytes(8)
    to = ctypes.create_string_buffer(address, len(address))
    sent, received = (Message * at_once)(), (Message * at_once)()
    buffers = [ctypes.create_string_buffer(512) for _ in range(2 * at_once)]
    pieces = [Piece(ctypes.addressof(buffer), 512) for buffer in buffers]
    for index in range(at_once):
        sent[index].header.name, sent[index].header.name_len = ctypes.addressof(to), len(address)
        sent[index].header.pieces, sent[index].header.piece_count = ctypes.pointer(pieces[index]), 1
        received[index].header.pieces = ctypes.pointer(pieces[at_once + index])
        received[index].header.piece_count = 1
    with datagrams(server) as line:
        line.setblocking(True)
        for first in range(0, count, at_once):
            for index in range(at_once):
                whole = question(first + index, name)
                ctypes.memmove(buffers[index], whole, len(whole))
                pieces[index].len = len(whole)
            assert libc.sendmmsg(line.fileno(), sent, at_once, 0) == at_once
            answered = set()
            while len(answered) < at_once:
                got = libc.recvmmsg(line.fileno(), received, at_once, 0x10000, None)
                assert got > 0, ctypes.get_errno()
                for index in range(got):
                    answered.add(struct.unpack(">H", buffers[at_once + index].raw[:2])[0])
            assert answered == set(range(first, first + at_once)), answered


def exactly(line, length):
    got = b""
    while len(got) < length:
        more = line.recv(length - len(got))
        assert more, "the server has hung up"
        got += more
    return got


def over_tcp(line, name, numbers):
    for number in numbers:
        whole = question(number, name)
        framed = struct.pack(">H", len(whole)) + whole
        if number % 3 == 0:
            for byte in framed:
                line.send(bytes([byte]))
        elif number % 3 == 1:
            line.send(framed[:2])
            line.send(framed[2:])
        else:
            line.sendmsg([framed[:2], framed[2:]])
        check(exactly(line, struct.unpack(">H", exactly(line, 2))[0]), number)


def tcp(server, name, count):
    """On one connection, in single bytes, in two pieces and at once; answers read length first."""
    with socket.create_connection((server, 53), 10) as line:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        over_tcp(line, name, range(count))


def held(server, name, count):
    """The same on a connection that waits for a line before the last `count`."""
    with socket.create_connection((server, 53), 10) as line:
        over_tcp(line, name, range(3))
        print("ready", flush=True)
        sys.stdin.readline()
        over_tcp(line, name, range(3, 3 + count))


def glibc(_, name, count):
    """The resolver of the C library: A and AAAA in one call."""
    for _ in range(count):
        socket.getaddrinfo(name, 80, type=socket.SOCK_STREAM)


def visit(port, name, count):
    """Asks, and connects at once to what it was told."""
    for _ in range(count):
        with socket.create_connection((name, int(port)), 10):
            pass


def vain(server, name, count):
    """Nobody answers."""
    with datagrams(server) as line:
        for number in range(count):
            line.sendto(question(number, name), (server, 53))


def nonsense(server, _, count):
    with datagrams(server) as line:
        for number in range(count):
            line.sendto(bytes([number % 256] * 7), (server, 53))


ways = [unconnected, connected, together, tcp, held, glibc, visit, vain, nonsense]
ways = {way.__name__: way for way in ways}
way, server, name, count = sys.argv[1:]
ways[way](server, name, int(count))
print(json.dumps({"answered": int(count)}))
