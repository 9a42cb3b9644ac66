#!/bin/bash
# The study on several nodes: Ray starts on each, `dvc repro` runs on the first, and all ends with it.
# Submit from the repository's root; compute.engine: ray, compute.address: auto.
#SBATCH --job-name=transfer-study
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --time=01:00:00
# Nodes must be of one kind; where a partition mixes them, name one:
##SBATCH --constraint=...
set -euo pipefail
. .venv/bin/activate

host=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
head=$(getent ahostsv4 "$host" | awk 'NR == 1 { print $1 }')
RAY_AUTH_TOKEN=$(ray get-auth-token --generate | tail -n 1) # srun hands it on to all nodes
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN
export RAY_ADDRESS=$head:$((20000 + SLURM_JOB_ID % 10000)) # of two jobs on a node, each has a port of its own

srun ray symmetric-run --address "$RAY_ADDRESS" --min-nodes "$SLURM_JOB_NUM_NODES" \
    --num-cpus "$SLURM_CPUS_ON_NODE" -- dvc repro
