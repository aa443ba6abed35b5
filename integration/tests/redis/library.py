#!/usr/bin/python3
"""Uses Debian's python3-redis. Prints how many commands were answered, and with what.

library.py ADDRESS PORT COUNT
"""
import json
import sys

import redis

ADDRESS, PORT, COUNT = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
ok = failed = 0
server = redis.Redis(ADDRESS, PORT, socket_timeout=60)
for number in range(COUNT):
    server.set("library", number)
    assert server.get("library") == b"%d" % number
    ok += 2
    try:
        server.lpush("library", "x")
    except redis.ResponseError:
        failed += 1
# One write, MULTI and EXEC around it.
pipeline = server.pipeline()
for number in range(COUNT):
    pipeline.hset("library hash", number, number)
pipeline.execute()
ok += COUNT + 2
pipeline = server.pipeline(transaction=False)
for number in range(COUNT):
    pipeline.get("library")
    pipeline.lpush("library", "x")
answers = pipeline.execute(raise_on_error=False)
failed += sum(isinstance(answer, redis.ResponseError) for answer in answers)
ok += sum(not isinstance(answer, redis.ResponseError) for answer in answers)
listener = server.pubsub()
listener.subscribe("library channel", "another channel")
ok += 1
assert [listener.get_message(timeout=60)["type"] for _ in range(2)] == ["subscribe"] * 2
for _ in range(COUNT):
    server.publish("library channel", "news")
ok += COUNT
for _ in range(COUNT):
    assert listener.get_message(timeout=60)["type"] == "message"
listener.close()
value = b"x" * (1 << 20)
server.set("library value", value)
assert server.get("library value") == value
ok += 2
# A connection for each.
for _ in range(COUNT):
    with redis.Redis(ADDRESS, PORT, single_connection_client=True, db=1) as short:
        short.ping()
    # SELECT
    ok += 2
print(json.dumps([["ok", ok], ["failed", failed]]))
