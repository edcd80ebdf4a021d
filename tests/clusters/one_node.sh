#!/usr/bin/env bash
# A SLURM of one node, this machine, for as long as a command runs: one_node.sh COMMAND...
# Its configuration, daemons and whatever they run live in namespaces of their own and end with them. Needs munge and
# slurm-wlm (Debian, Ubuntu).
set -eu

if [ "${1:-}" != --inside ]; then
  for tool in slurmctld slurmd munged unshare; do
    [ -n "$(PATH="$PATH:/usr/sbin" command -v "$tool")" ] ||
      { echo "one_node.sh: $tool is not installed: apt-get install slurm-wlm munge" >&2; exit 2; }
  done
  [ "$(id -u)" = 0 ] || user=--map-root-user
  exec unshare ${user:-} --mount --pid --fork --kill-child --mount-proc "$0" --inside "$@"
fi

shift
PATH="$PATH:/usr/sbin"
place=$(mktemp -d) host=$(hostname -s) port=$((20000 + 2 * (RANDOM % 5000)))
chmod 755 "$place"
mkdir -p "$place"/etc "$place"/state "$place"/spool "$place"/munge
head -c 1024 /dev/urandom > "$place/munge/key"
chmod 600 "$place/munge/key"
munged --socket="$place/munge/socket" --key-file="$place/munge/key" --pid-file="$place/munge/pid" \
  --log-file="$place/munge/log" --seed-file="$place/munge/seed"
cat > "$place/etc/slurm.conf" <<CONF
ClusterName=one
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
AuthInfo=socket=$place/munge/socket
SlurmctldPort=$((port))
SlurmdPort=$((port + 1))
StateSaveLocation=$place/state
SlurmdSpoolDir=$place/spool
SlurmctldPidFile=$place/slurmctld.pid
SlurmdPidFile=$place/slurmd.pid
SlurmctldLogFile=$place/slurmctld.log
SlurmdLogFile=$place/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=2
KillWait=2
MinJobAge=600
SchedulerParameters=sched_min_interval=0,batch_sched_delay=0
SlurmdParameters=config_overrides
NodeName=$host NodeAddr=127.0.0.1 CPUs=2 RealMemory=16000 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES DefaultTime=60 MaxTime=INFINITE
CONF
mkdir -p /etc/slurm 2>/dev/null || true
mount --bind "$place/etc" /etc/slurm
slurmctld
slurmd
for _ in $(seq 50); do
  sinfo --noheader --format=%t 2>/dev/null | grep -q idle && break
  sleep 0.2
done
status=0
"$@" || status=$?
[ "$status" = 0 ] || tail -n 20 "$place"/slurmctld.log "$place"/slurmd.log >&2
rm -rf "$place" 2>/dev/null || true  # the daemons end with their namespaces
exit "$status"
