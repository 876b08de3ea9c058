#!/usr/bin/env bash
# The grid on a real Slurm cluster of this one machine. By hand, as root on Debian 12:   bash tests/slurm.sh
#
# Shows, with the ordinary commands and tiny nets: a sweep of four cells, each a Slurm job, one of them with two ranks;
# jobs that Slurm requeues or preempts while they train, and that go on; that nothing is left running.
# Changes: the packages slurm-wlm and munge are installed where they are absent, and stay. All else, the cluster's key,
# configuration and daemons (ports 16817 and 16818), the images and the runs, is in a temporary folder, removed at the
# end, but kept where a check fails. PYTHON is a Python with requirements.txt installed, by default python.
set -euo pipefail

python=$(command -v "${PYTHON:-python}")
train=(timeout 3600 "$python" "$(realpath "$(dirname "$0")/../train.py")")
folder=$(mktemp -d)
chmod 711 "$folder" # munge wants a socket that everybody can reach
cluster=$folder/cluster runs=$folder/runs
export SLURM_CONF=$cluster/slurm.conf XDG_CACHE_HOME=$folder/cache OMP_NUM_THREADS=1
cd "$folder"

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

until_true() { # COMMAND…: wait for it, for minutes where the machine is busy
    for _ in $(seq 3000); do
        if "$@" > /dev/null 2>&1; then return; fi
        sleep 0.2
    done
    fail "waited in vain for: $*"
}
idle() { [ "$(sinfo --noheader --format=%T)" = idle ]; }
no_job() { [ -z "$(squeue --noheader)" ]; }
stopped() { [ ! -e "$cluster/$1.pid" ]; }

clean_up() {
    status=$?
    trap - EXIT
    set +e
    kill $(jobs -p) 2> /dev/null
    if [ -e "$cluster/slurmctld.pid" ]; then
        scancel --user=root
        (until_true no_job)
    fi
    for daemon in slurmd slurmctld munged; do
        if [ -e "$cluster/$daemon.pid" ]; then
            kill "$(cat "$cluster/$daemon.pid")"
            (until_true stopped $daemon)
        fi
    done
    if [ $status -eq 0 ]; then rm -r "$folder"; else echo "Its files are in $folder" >&2; fi
    exit $status
}
trap clean_up EXIT
trap 'echo "FAILED: line $LINENO: $BASH_COMMAND" >&2' ERR

# --- the cluster ------------------------------------------------------------------------------------------------------
if ! (command -v slurmctld && command -v slurmd && command -v srun && command -v munged) > /dev/null; then
    apt-get update -q
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends slurm-wlm munge
fi
mkdir -m 711 "$cluster"
(umask 077 && head -c 1024 /dev/urandom > "$cluster/munge.key")
# No cgroups, which a container may lack. config_overrides: more CPUs than there may be, so that jobs run side by side.
# cred_expire: a requeued job waits that long. MinJobAge: ended jobs can be asked about.
cat > "$SLURM_CONF" << END
ClusterName=one
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmUser=root
SlurmctldPort=16817
SlurmdPort=16818
AuthInfo=socket=$cluster/munge.socket,cred_expire=5
StateSaveLocation=$cluster/slurmctld
SlurmdSpoolDir=$cluster/slurmd
SlurmctldPidFile=$cluster/slurmctld.pid
SlurmdPidFile=$cluster/slurmd.pid
SlurmctldLogFile=$cluster/slurmctld.log
SlurmdLogFile=$cluster/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
JobRequeue=1
MinJobAge=86400
NodeName=$(hostname -s) NodeAddr=127.0.0.1 CPUs=4 $(slurmd -C | grep -o 'RealMemory=[0-9]*')
PartitionName=all Nodes=ALL Default=YES
END
munged --key-file="$cluster/munge.key" --socket="$cluster/munge.socket" --pid-file="$cluster/munged.pid" \
    --log-file="$cluster/munged.log" --seed-file="$cluster/munge.seed"
slurmctld
slurmd
until_true idle
echo "ok: $(slurmctld -V) has one node, $(sinfo --noheader --format='%N with %c CPUs, %T')"

# --- four cells, each a job; B starts from A; B-5x5 has two ranks, which srun starts inside its job -------------------
"$python" -c "
from pathlib import Path
from vgg import digits
digits.SCENES = {'train': 84, 'val': 37}
digits.write(Path('scenes'))"
mkdir -p conf/cell
for cell in A:cpu B:cpu A-LRN:cpu B-5x5:slurm; do # an option cell=NET that names the net and its trainer
    printf '# @package _global_\ndefaults: [{override /model: %s}, {override /trainer: %s}]\n' \
        "${cell%:*}" "${cell#*:}" > "conf/cell/${cell%:*}.yaml"
done
echo 'trainer: {accelerator: cpu, devices: 2}' >> conf/cell/B-5x5.yaml
tiny=(train_scale=S256 data=folder data.root="$folder/scenes" data.width=0.0625 data.scale=0.125 data.batch=8 logger=csv)
rest=-dropout0-scale0.125-width0.0625-batch8-epochs4-lr0.0002 # of the names of the runs of this grid
grid=("${tiny[@]}" dirs.runs="$runs" data.dropout=0 data.epochs=4 data.lr=2e-4) # at which roundings do not grow
slurm=(hydra/launcher=submitit_slurm hydra.launcher.partition=all hydra.launcher.cpus_per_task=2)
slurm+=(hydra.launcher.timeout_min=60) # submitit takes SIGUSR2 in a shorter job for the end of its time

"${train[@]}" --config-dir "$folder/conf" -m +cell=A,B,A-LRN,B-5x5 "${grid[@]}" "${slurm[@]}" > grid.out 2>&1
grep -q "sweep: 4 jobs, 0 failed" grid.out || fail "$(cat grid.out)"
logs=$runs/.sweep/.submitit
for name in A-256$rest B-256$rest A-LRN-256$rest B-5x5-256$rest; do
    [ -e "$runs/scenes/$name/weights.pt" ] || fail "$name is not finished"
    [ "$(cat "$logs"/*/*.out | grep -c "scenes/$name  epoch 1/4")" = 1 ] || fail "$name was not trained once"
done
grep -q "scenes/A-256$rest: another process trains it, waiting" "$logs"/*/*.out || fail "A and B did not run side by side"
echo "ok: $(grep sweep: grid.out); each net was trained once, A too, which two jobs wanted to train"

sha() { "$python" -c "import json; print(json.load(open('$runs/scenes/$1/record.json'))['weights_sha256'])"; }
same() { [ "$(sha "$1")" = "$(sha "$2")" ] || fail "$1 and $2 have different weights"; }
"${train[@]}" -m model=A,B,A-LRN,B-5x5 tag=alone trainer=cpu "${grid[@]}" > alone.out 2>&1
for name in A-256$rest B-256$rest A-LRN-256$rest; do same $name $name-alone; done
echo "ok: A, B and A-LRN have the weights that they have without Slurm, bit for bit"
[ "$(cat "$logs"/*/*.err | grep -c 'MEMBER: [12]/2')" = 2 ] || fail "B-5x5 had not two ranks"
"$python" -c "
import sys
sys.path.insert(0, '${train[3]%/train.py}/tests')
from conftest import ROUNDING, training_difference
from vgg.runs import Run
many, one = (Run.named(f'scenes/B-5x5-256$rest{tag}', '$runs') for tag in ('', '-alone'))
assert training_difference(many, one) < ROUNDING"
echo "ok: B-5x5 has, from two ranks, the weights that one process gives, within rounding"

salloc --job-name=interactive --ntasks-per-node=2 "$python" "${train[3]}" model=A tag=salloc trainer=slurm \
    trainer.accelerator=cpu trainer.devices=2 "${grid[@]}" > salloc.out 2>&1
[ "$(grep -c 'epoch 1/4' salloc.out)" = 1 ] || fail "each rank trained by itself: $(cat salloc.out)"
echo "ok: two ranks in an allocation of salloc, too, whose jobs are named interactive, are one training"

# --- a job that Slurm requeues, and one that submitit requeues at the signal to make room -----------------------------
rest=-seed2-scale0.125-width0.0625-batch8-epochs20-patience20
long=("${tiny[@]}" dirs.runs="$runs" model=A,A-LRN seed=2 trainer=cpu data.dropout=0.5 data.epochs=20 data.patience=20)
"${train[@]}" -m "${long[@]}" trainer.checkpoint_minutes=0 "${slurm[@]}" > requeued.out 2>&1 &
second_epoch_done() { grep -q "scenes/$1  epoch 2/20" "$logs"/*/*.out; }
until_true second_epoch_done A-256$rest
array=$(squeue --noheader --format=%F | sort -u)
scontrol requeue "${array}_0"
until_true second_epoch_done A-LRN-256$rest
pgrep -f "vgg fit $runs/" > /dev/null || fail "the processes of a training are not found by their names"
scancel --signal=USR2 "${array}_1"
wait $!
grep -q "sweep: 2 jobs, 0 failed" requeued.out || fail "$(cat requeued.out)"
"${train[@]}" -m "${long[@]}" tag=alone > alone.out 2>&1
for job in 0:A-256$rest:requeue 1:A-LRN-256$rest:SIGUSR2; do
    IFS=: read -r number name what <<< "$job"
    log=$(cat "$logs/${array}_$number"/*.out)
    [[ $(scontrol show job "${array}_$number") == *Restarts=1* ]] || fail "$name was not started again"
    [[ $log == *"to train"*"to resume"*"epoch 20/20"* ]] || fail "$name did not go on: $log"
    [[ $log == *"stopped, with a checkpoint"*"to resume"* ]] || fail "$name left no checkpoint at the signal: $log"
    [ "$(grep -o 'epoch [0-9]*/' <<< "$log")" = "$(printf 'epoch %d/\n' {1..20})" ] || fail "not each epoch once: $log"
    same "$name" "$name-alone"
    echo "ok: $name, started again after $what, went on and has the weights of an uninterrupted training, bit for bit"
done

until_true no_job
if pgrep -af "vgg fit $runs/"; then fail "a training outlived its job"; fi
echo "ok: no job and no process is left"
