#!/bin/bash
# Runs in the machine. /it/rows has the table: NAME START PORT NEXT ID ROUND1 ROUND2 ROUND3, of an empty word a dash.
# A workload of each kind; orders to all of them, round by round; and what the agent says, for the test to judge.
set -eu
# Of systemd, for its services: Podman would leave its monitor where it was started.
unset INVOCATION_ID
image=localhost/pause:test namespace=tarsier-it
uid=5c5ba5ba-a5ba-45ba-85ba-c5ba5ba5ba5b

until_() { # until_ SECONDS COMMAND...
  local end=$((SECONDS + $1))
  shift
  until "$@"; do
    [ $SECONDS -lt $end ] || { echo "still not: $*"; return 1; }
    sleep 0.3
  done
}

make_image() {
  local root=/tmp/image library
  mkdir -p $root/bin
  cp /bin/busybox $root/bin
  ln -s busybox $root/bin/sh
  ln -s busybox $root/bin/sleep
  # The workload itself is in /it, which all of them have.
  for library in $(ldd /it/workload | grep -oE '/[^ ]+'); do
    mkdir -p "$root$(dirname "$library")"
    cp -L "$library" "$root$library"
  done
  PAUSE=1 ROOTFS=$root bash /it/mkimage.sh /tmp/image.tar $image
}

start_runtimes() {
  mkdir -p /etc/cni/net.d /etc/docker
  cat >/etc/cni/net.d/10-it.conflist <<'T'
{"cniVersion":"0.4.0","name":"it","plugins":[
 {"type":"bridge","bridge":"it0","isGateway":true,"ipMasq":false,
  "ipam":{"type":"host-local","ranges":[[{"subnet":"10.213.251.0/24"}]],"routes":[{"dst":"0.0.0.0/0"}]}},
 {"type":"loopback"}]}
T
  cat >/etc/containerd/config.toml <<T
version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "$image"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = true
T
  # Of Docker and Podman nothing is told how to name cgroups: where the first process is a systemd, they ask that.
  echo '{"bridge":"none","iptables":false}' >/etc/docker/daemon.json
  systemctl start dbus.socket podman.socket containerd docker
  make_image
  ctr -n k8s.io images import /tmp/image.tar >/dev/null
  ctr -n $namespace images import /tmp/image.tar >/dev/null
  podman load -q -i /tmp/image.tar
  docker load -q -i /tmp/image.tar
}

group_of() { sed -n 's/^0:://p' "/proc/$1/cgroup"; }
placed() { # placed CGROUP COMMAND...: a process of no runtime's
  (
    echo 0 >"/sys/fs/cgroup$1/cgroup.procs"
    shift
    exec "$@"
  ) &
}

# start_KIND NAME COMMAND ADDRESS PIPE, where COMMAND is two words.
start_service() {
  printf '[Service]\nExecStart=%s\n' "${*:2}" >"/etc/systemd/system/it-$1.service"
  systemctl start "it-$1"
}
start_template() {
  echo "ADDRESS=$4" >"/it/address-$1"
  cat >/etc/systemd/system/it@.service <<'T'
[Service]
EnvironmentFile=/it/address-%i
ExecStart=/it/workload-%i obey ${ADDRESS} /it/%i
T
  systemctl start "it@$1"
}
start_scope() { systemd-run -q --scope --unit="it-$1" -- "${@:2}" & }
start_user() { systemd-run -q --unit="it-$1" --slice=user-1000.slice -- "${@:2}"; }
start_bare() { placed / "${@:2}"; }
start_pod() {
  local words
  words=$(printf '"%s",' "${@:2}")
  cat >/it/pod.json <<T
{"name":"web-64cd4f9686-mvtnb","namespace":"shop","uid":"$uid","container":"app","image":"$image","command":[${words%,}],
 "cgroup_parent":"kubepods-burstable-pod${uid//-/_}.slice","log_directory":"/var/log/it",
 "mounts":[{"container":"/it","host":"/it"}]}
T
  python3 /it/cri.py --sock /run/containerd/containerd.sock run-pod /it/pod.json >/it/pod.started
}
start_pause() { # beside the one that holds the pod
  local sandbox
  sandbox=$(sed 's/.*"pod": "\([0-9a-f]*\)".*/\1/' /it/pod.started)
  placed "$(group_of "$(ctr -n k8s.io tasks ls | awk -v id="$sandbox" '$1 == id { print $2 }')")" "${@:2}"
}
start_nerdctl() { # with the words that nerdctl uses
  local id
  id=$(printf 0d15ea5e%.0s 1 2 3 4 5 6 7 8)
  ctr -n $namespace run -d --net-host --runc-systemd-cgroup --cgroup "system.slice:nerdctl:$id" --label nerdctl/name=web \
    --mount type=bind,src=/it,dst=/it,options=rbind:rw $image "$id" "${@:2}"
}
start_docker() { docker run -d --name "it-$1" --network=host -v /it:/it $image "${@:2}"; }
start_podman() { podman run -d --name "it-$1" --network=host -v /it:/it $image "${@:2}"; }
start_podman_pod() {
  podman pod create --name it-pod --network=host
  podman run -d --name "it-$1" --pod it-pod -v /it:/it $image "${@:2}"
}
podman_group() { group_of "$(podman inspect -f "$1" "$2")"; }
start_podman_pause() {
  placed "$(podman_group '{{.State.Pid}}' "$(podman pod inspect -f '{{.InfraContainerID}}' it-pod)")" "${@:2}"
}
start_podman_monitor() { placed "$(podman_group '{{.State.ConmonPid}}' it-podman)" "${@:2}"; }

each() { # each COMMAND...: with a row's words after it
  local row
  while read -r row; do
    # shellcheck disable=SC2086 # words
    "$@" $row </dev/null
  done </it/rows
}
start() {
  echo "$SECONDS s: $1"
  mkfifo "/it/$1"
  ln /it/workload "/it/workload-$1"
  "start_$2" "$1" "/it/workload-$1" obey "0.0.0.0:$3" "/it/$1" || { echo "$1 did not start"; return 1; }
  until_ 60 has_said 1 "$1"
}
has_said() { [ -e "/it/$2.said" ] && [ "$(wc -l <"/it/$2.said")" = "$1" ]; }
order() { # order ROUND ROW
  local number=$1 columns
  shift
  columns=("$@")
  echo "$4 ${columns[$((4 + number))]}" >"/it/$1"
}
obeyed() { until_ 120 has_said $(($1 + 1)) "$2"; }
round() {
  each order "$1"
  each obeyed "$1"
}

# Whether the agent says of all who is there, and of all connects since it started; COLUMN is the one of their number.
is_told() { # is_told COLUMN
  busybox wget -q -O /tmp/metrics http://127.0.0.1:10300/metrics || return 1
  awk -v column="$1" '
    NR == FNR { if ($5 != "-") { rows++; id[rows] = $5; port[rows] = ":" $3 "\""; next_[rows] = $4; count[rows] = column ? $column : 0 }; next }
    { for (row = 1; row <= rows; row++) if (index($0, "container_id=\"" id[row] "\"")) {
        if (/^container_net_tcp_listen_info/ && index($0, port[row])) listens[row] = 1
        if (/^container_net_tcp_successful_connects_total/ && $NF == count[row] && match($0, "[{,]destination=\"" next_[row] "\"")) connects[row] = 1
      } }
    END { for (row = 1; row <= rows; row++) if (!listens[row] || (column && !connects[row])) exit 1 }
  ' /it/rows /tmp/metrics
}
show() { # show WHEN COLUMN
  echo "$SECONDS s: $1"
  # The test says what is wrong.
  until_ 120 is_told "$2" || true
  # Longer than two passes over the totals: what would be counted twice, would be by now.
  sleep 3
  echo "BEGIN $1"
  busybox wget -q -O - http://127.0.0.1:10300/metrics
  echo "END $1"
  each inspect "$1"
}
inspect() { # inspect WHEN ROW
  [ "$6" != - ] || return 0
  echo "BEGIN $1 $2"
  # The test misses who is not there.
  tarsier inspect "$6" --json || true
  echo "END $1 $2"
}
is_ready() { busybox wget -q -O /dev/null http://127.0.0.1:10300/readyz 2>/dev/null; }
say() {
  echo "BEGIN group $1"; group_of "$(pgrep -f "^/it/workload-$1 obey")"; echo "END group $1"
  echo "BEGIN said $1"; cat "/it/$1.said"; echo "END said $1"
}

trap '[ $? = 0 ] || journalctl -q -o cat -u tarsier -u tarsier-root | tail -n 30' EXIT
printf 'TARSIER__CONTAINERS__MIN_AGE=0s\nTARSIER__KERNEL__TOTALS_INTERVAL=1s\n' >/etc/default/tarsier
ln -s /it/tarsier /usr/bin/tarsier
cp /it/tarsier.service /etc/systemd/system
systemd-sysusers /it/sysusers.conf
start_runtimes

systemd-run -q --unit=tarsier-root -p EnvironmentFile=/etc/default/tarsier -p RuntimeDirectory=tarsier -- \
  tarsier run --listen 127.0.0.1:10300
until_ 60 is_ready
each start
round 1
show younger 6
systemctl stop tarsier-root
round 2
systemctl start tarsier
until_ 60 is_ready
show older 0
round 3
show older-and-busy 8
each say
systemctl stop tarsier
