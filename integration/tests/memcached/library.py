#!/usr/bin/python3
"""Uses Debian's python3-pymemcache and python3-memcache. Prints how many commands were answered, and with what: each call by what
its library's documentation says it sends.

library.py ADDRESS PORT LIBRARY COUNT
"""
import json
import os
import sys

ADDRESS, PORT, LIBRARY, COUNT = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
ANSWERS = {"ok": 0, "failed": 0}


def ok(number, holds=True):
    assert holds
    ANSWERS["ok"] += number


def name(what):
    return f"{LIBRARY}-{os.getpid()}-{what}"


def pymemcache():
    from pymemcache.client.base import Client
    from pymemcache.exceptions import MemcacheClientError, MemcacheServerError

    def fails(kind, call, *arguments):
        try:
            call(*arguments)
        except kind:
            ANSWERS["failed"] += 1
            return
        raise AssertionError(arguments)

    # Without a word about it the library would not want any answers.
    line = Client((ADDRESS, PORT), timeout=60, default_noreply=False, no_delay=True)
    a, b, nothing = name("a"), name("b"), name("nothing")
    for number in range(COUNT):
        ok(1, line.set(a, str(number)))
        ok(1, line.get(a) == b"%d" % number)
        ok(1, line.get(nothing) is None)
        ok(1, not line.add(a, "x"))
        ok(1, line.append(a, "0"))
        ok(1, line.incr(a, 2) == number * 10 + 2)
        ok(1, line.decr(a, 2) == number * 10)
        ok(1, line.touch(a, 60))
        value, cas = line.gets(a)
        ok(1, value is not None)
        ok(1, line.cas(a, "word", cas) is True)
        ok(1, line.cas(a, "word", cas) is False)
        fails(MemcacheClientError, line.incr, a, 1)
        # A command for each, in one write; one command for all; a command for each.
        some = {name(f"many-{index}"): "x" * index for index in range(30)}
        ok(30, line.set_many(some) == [])
        ok(1, len(line.get_many(list(some) + [nothing])) == 30)
        ok(30, line.delete_many(list(some)))
        ok(1, not line.delete(nothing))
        ok(1, line.version())
        ok(1, line.stats())
        ok(1, line.set(b, "text", expire=1))
    value = "x" * (1 << 20)
    ok(1, line.set(a, value))
    ok(1, len(line.get(a)) == 1 << 20)
    fails(MemcacheServerError, line.set, a, "x" * (5 << 20))
    # It says goodbye, which is no request.
    line.quit()
    # A connection for each.
    for _ in range(COUNT):
        line = Client((ADDRESS, PORT), timeout=60, default_noreply=False)
        ok(1, line.get(nothing) is None)
        line.close()


def memcache():
    import memcache as library

    line = library.Client([f"inet6:[{ADDRESS}]:{PORT}" if ":" in ADDRESS else f"{ADDRESS}:{PORT}"], socket_timeout=60)
    a, nothing = name("a"), name("nothing")
    for number in range(COUNT):
        ok(1, line.set(a, number))
        ok(1, line.get(a) == number)
        ok(1, line.get(nothing) is None)
        ok(1, line.incr(a) == number + 1)
        ok(1, line.delete(a))
        some = {name(f"many-{index}"): "x" * index for index in range(30)}
        ok(30, line.set_multi(some) == [])
        ok(1, len(line.get_multi(list(some))) == 30)
        ok(30, line.delete_multi(list(some)))
    line.disconnect_all()


{"pymemcache": pymemcache, "memcache": memcache}[LIBRARY]()
print(json.dumps(list(ANSWERS.items())))
