# shellcheck shell=dash disable=SC2154,SC2317
# Sourced by guest.sh where the agent counts requests: real servers and real clients, all that the agent counts of them, and
# what they have counted themselves. First with the kernel counting what it can, then with the agent reading everything.
# $POSTGRES has PostgreSQL's programs.

# start NAME COMMAND...: in a container of its own.
start() {
  name=$1
  shift
  (enter "$name.service"; exec "$@" >"/tmp/$name.log" 2>&1) &
}
# section NAME COMMAND...: its output, for the test.
section() {
  section=$1
  shift
  "$@" >/tmp/section 2>&1 || { echo "$* ends with $?"; cat /tmp/section /tmp/said; exit 1; }
  echo "BEGIN $section"; cat /tmp/section; echo "END $section"
}
# contained NAME COMMAND...: runs it in a container of its own.
contained() { (enter "$1.service"; shift; "$@"); }

mkdir -p /var/lib/nginx
# More than one page of memory.
head -c 20000 /bin/busybox >/tmp/pages
: >/tmp/said
start http-server nginx -e stderr -c /nginx.conf
start redis-server redis-server --bind 127.0.0.1 ::1 --save '' --dir /tmp
start postgres-server su nobody -c "exec $POSTGRES/postgres -D /cluster"
within 60 test -s /tmp/nginx.pid
within 60 grep -q 'Ready to accept connections' /tmp/redis-server.log
within 60 grep -q 'ready to accept connections' /tmp/postgres-server.log

# Clients, each with a thousand that succeed and a hundred that do not, half by IPv4 and half by IPv6. They print how many of
# each status they have counted.
http_client() {
  for host in 127.0.0.1 '[::1]'; do
    ab -q -c 4 -n 100 "http://$host:8000/" || return
    ab -q -k -c 4 -n 400 "http://$host:8000/pages" || return
    ab -q -k -c 4 -n 50 "http://$host:8000/missing" || return
  done >/tmp/said 2>&1
  awk '/^Complete requests:/ { all += $3 } /^Non-2xx responses:/ { missing += $3 }
    END { print "2xx", all - missing; print "4xx", missing + 0 }' /tmp/said
}
# redis-benchmark asks for the configuration twice, beside what it says, and gives up at an error.
redis_client() {
  for host in 127.0.0.1 ::1; do
    redis-benchmark -h $host -c 4 -n 250 SET word x || return
    redis-benchmark -h $host -c 4 -n 250 GET word || return
    redis-cli -h $host -r 50 LPUSH word x || return
  done >/tmp/said 2>&1
  tr '\r' '\n' </tmp/said | awk '/ requests completed in / { ok += 2 + $1 } /^WRONGTYPE / { failed++ }
    END { print "ok", ok; print "failed", failed }'
}
# It looks at its tables twice, beside what it says.
postgres_client() {
  i=0; while [ $i -lt 50 ]; do i=$((i+1)); echo 'select 1 / 0;'; done >/tmp/wrong.sql
  for host in 127.0.0.1 ::1; do
    "$POSTGRES/pgbench" -h $host -U tester -n -S -c 4 -t 125 postgres || return
    "$POSTGRES/psql" -h $host -U tester -q -f /tmp/wrong.sql postgres || return
  done >/tmp/said 2>&1
  awk '/^number of transactions actually processed:/ { ok += 2 + $NF } / ERROR: / { failed++ }
    END { print "ok", ok; print "failed", failed }' /tmp/said
}
# Servers print what they have counted since they were started.
http_server() { awk '{ n[substr($1, 1, 1) "xx"]++ } END { for (status in n) print status, n[status] }' /tmp/nginx.access; }
redis_server() {
  redis-cli INFO commandstats | tr -d '\r' | awk -F '[:=,]' '/^cmdstat_/ { ok += $3 - $NF; failed += $NF }
    END { print "ok", ok; print "failed", failed }'
}
postgres_server() {
  awk '/ LOG:  statement: / { ok++ } / ERROR:  / { failed++; ok-- } END { print "ok", ok; print "failed", failed }' \
    /tmp/postgres-server.log
}

# The counts of these containers have not moved for longer than a pass over the totals.
stay() {
  mv /tmp/counts /tmp/counts.before
  sleep 3
  wget -q -O /tmp/metrics http://127.0.0.1:10300/metrics || return
  grep -E '^container_(http|redis|postgres)_.*"/system.slice/(http|redis|postgres)-' /tmp/metrics >/tmp/counts
  cmp /tmp/counts /tmp/counts.before
}
scrape() {
  echo none >/tmp/counts
  within 30 stay
  section "metrics $1" cat /tmp/metrics
}

enter operator.service
for lane in kernel agent; do
  if [ $lane = agent ]; then
    mkdir -p /etc/tarsier
    echo 'l7: {kernel_lane: false}' >/etc/tarsier/tarsier.yaml
    section reload /tarsier reload
  fi
  scrape "before $lane"
  for protocol in http redis postgres; do
    section "$protocol-$lane" contained "$protocol-$lane" ${protocol}_client
  done
  scrape "after $lane"
  for protocol in http redis postgres; do
    section "$protocol-server $lane" ${protocol}_server
  done
done
