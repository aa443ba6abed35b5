#!/usr/bin/python3
"""Uses Debian's python3-psycopg2. Prints how many queries were answered, and with what.

library.py ADDRESS PORT COUNT
"""
import io
import json
import sys
import threading

import psycopg2

ADDRESS, PORT, COUNT = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
ok = failed = 0


def connect():
    return psycopg2.connect(host=ADDRESS, port=PORT, user="tester", dbname="postgres")


server = connect()
cursor = server.cursor()
for number in range(COUNT):
    # BEGIN before it.
    cursor.execute("select %s, %s", (number, "text"))
    assert cursor.fetchone() == (number, "text")
    server.commit()
    ok += 3
    try:
        cursor.execute("select 1 / 0")
    except psycopg2.Error:
        server.rollback()
    # BEGIN and ROLLBACK.
    ok += 2
    failed += 1
server.autocommit = True
cursor.execute("create temp table library (a int, b text)")
cursor.executemany("insert into library values (%s, %s)", [(number, "text") for number in range(COUNT)])
ok += 1 + COUNT
rows = "".join(f"{number}\trow\n" for number in range(3000))
cursor.copy_expert("copy library from stdin", io.StringIO(rows))
copied = io.StringIO()
cursor.copy_expert("copy library to stdout", copied)
assert copied.getvalue().endswith(rows)
ok += 2
timer = threading.Timer(1, server.cancel)
timer.start()
try:
    cursor.execute("select pg_sleep(60)")
except psycopg2.errors.QueryCanceled:
    failed += 1
timer.join()
cursor.execute("select 1")
ok += 1
# A connection for each.
for _ in range(COUNT):
    short = connect()
    short.autocommit = True
    short.cursor().execute("select 1")
    short.close()
    ok += 1
print(json.dumps([["ok", ok], ["failed", failed]]))
