# shellcheck shell=dash
# What a machine with another kernel runs, by busybox.
# By IPv4 and IPv6: a connection that is older than the agent; a hundred connects that succeed, a hundred that are refused, ten
# without a route; then processes that end at once; questions to a name server, and what requests.sh asks. A scrape is work for
# the agent too, so one alone may see something on its way.
export TARSIER__CONTAINERS__MIN_AGE=0s TARSIER__KERNEL__TOTALS_INTERVAL=1s
enter() { mkdir -p "/sys/fs/cgroup/system.slice/$1"; echo 0 >"/sys/fs/cgroup/system.slice/$1/cgroup.procs"; }
# within SECONDS COMMAND...: waits until it succeeds. The last thing that it says, and what the agent has logged, tell why not.
within() {
  left=$1
  shift
  until "$@" >/tmp/within 2>&1; do
    [ "$left" -gt 0 ] || { echo "still not: $*"; cat /tmp/within /tmp/*.log; exit 1; }
    left=$((left - 1))
    sleep 1
  done
}
mkdir -p /run/tarsier
printf '%s\n' root:x:0:0:root:/:/bin/sh nobody:x:65534:65534:nobody:/:/bin/sh >/etc/passwd
printf '%s\n' root:x:0: nobody:x:65534: >/etc/group

sleep 1000 | /workload serve 127.0.0.1:8081 '[::1]:8081' --keep >/tmp/keeper &
within 60 grep -q ready /tmp/keeper
for to in 127.0.0.1:8081 '[::1]:8081'; do
  (enter older.service; sleep 1000 | /workload hold "$to" --count 1 --send 50 >"/tmp/held.$to") &
done
within 60 grep -q ready "/tmp/held.127.0.0.1:8081"
within 60 grep -q ready "/tmp/held.[::1]:8081"
/tarsier run --log-format json --listen 127.0.0.1:10300 2>/tmp/agent.log &
agent=$!
within 60 wget -q -O /tmp/ready http://127.0.0.1:10300/readyz

(enter server.service; sleep 1000 | /workload serve 127.0.0.1:8080 '[::1]:8080' --read 100 --answer 200 >/tmp/server) &
within 60 grep -q ready /tmp/server
enter client.service
/workload connect 127.0.0.1:8080 --count 100 --send 100 --receive 200
/workload connect '[::1]:8080' --count 100 --send 100 --receive 200
/workload connect 127.0.0.1:81 --count 100
/workload connect '[::1]:81' --count 100
/workload connect 203.0.113.1:82 --count 10
/workload connect '[2001:db8::1]:82' --count 10
enter storm.service
/workload storm --count 200 --kind exec
/workload storm --count 200 --kind fork
# Where there is one for this architecture: a hundred questions by IPv4 and IPv6, each for A and AAAA.
if [ -x /dnsmasq ]; then
  (enter resolver.service; exec /dnsmasq --no-daemon --user=root --no-resolv --no-hosts --local=/example/ --pid-file= \
    --address=/one.example/192.0.2.1 --address=/one.example/2001:db8::1 --listen-address=127.0.0.1,::1 --bind-interfaces \
    >/tmp/dnsmasq 2>&1) &
  within 60 nslookup one.example 127.0.0.1
  enter names.service
  for server in 127.0.0.1 ::1; do
    i=0; while [ $i -lt 50 ]; do i=$((i+1)); nslookup one.example $server >/dev/null || exit 1; done
  done
fi
# shellcheck source=/dev/null
[ ! -e /requests.sh ] || . /requests.sh
enter scrape.service
for scrape in 1 2 3 4 5; do
  sleep 2; echo "BEGIN metrics $scrape"; wget -q -O - http://127.0.0.1:10300/metrics; echo "END metrics $scrape"
done
echo BEGIN programs; /tarsier programs || cat /tmp/agent.log; echo END programs
kill $agent; wait $agent
