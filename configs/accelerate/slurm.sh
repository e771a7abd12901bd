#!/bin/bash
# GRPO on several machines of a SLURM cluster: the first TRAIN_NODES train, the others sample with vLLM,
# a server on each GPU. From the repository root, which all machines see:
#   sbatch --nodes 4 configs/accelerate/slurm.sh --config configs/qwen3b.yaml --resume
# VLLM_PYTHON is the interpreter of an environment that has vLLM; without serving machines
# (TRAIN_NODES = --nodes) the policy samples for itself. Not covered: machines of different kinds.
#SBATCH --job-name=tightrope
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --exclusive
#SBATCH --signal=B:TERM@300
set -euo pipefail

TRAIN_NODES=${TRAIN_NODES:-2}
BASE=${BASE:-Qwen/Qwen2.5-Coder-3B-Instruct} # as model.base
LORA_RANK=${LORA_RANK:-32}                   # as model.lora_rank, or the next of 8, 16, 32, 64, 128, 256
WINDOW_TOKENS=${WINDOW_TOKENS:-8192}         # as the larger context.window_tokens
VLLM_PYTHON=${VLLM_PYTHON:-.venv-vllm/bin/python}
PORT=${PORT:-8100} # of the first server of a machine

GPUS=${SLURM_GPUS_ON_NODE:-8}
mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
training=("${nodes[@]:0:TRAIN_NODES}")
serving=("${nodes[@]:TRAIN_NODES}")
extra=()

if [ ${#serving[@]} -gt 0 ]; then
  urls=()
  for node in "${serving[@]}"; do
    for ((gpu = 0; gpu < GPUS; gpu++)); do urls+=("\"http://$node:$((PORT + gpu))\""); done
  done
  extra=(--rollouts.backend vllm --rollouts.servers "[$(IFS=,; echo "${urls[*]}")]"
    --rollouts.adapter_dir "${ADAPTER_DIR:-$PWD/runs/adapters-$SLURM_JOB_ID}")
  # Loading adapters and asking for ids and log-probs: what a run expects of its servers.
  serve='for ((gpu = 0; gpu < GPUS; gpu++)); do
    CUDA_VISIBLE_DEVICES=$gpu VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 VLLM_NO_USAGE_STATS=1 \
      "$VLLM_PYTHON" -m vllm.entrypoints.openai.api_server --model "$BASE" --host 0.0.0.0 \
      --port $((PORT + gpu)) --dtype bfloat16 --max-model-len "$WINDOW_TOKENS" --enable-lora \
      --max-loras 2 --max-lora-rank "$LORA_RANK" --generation-config vllm \
      --logprobs-mode processed_logprobs --disable-uvicorn-access-log &
  done; wait'
  export GPUS BASE LORA_RANK WINDOW_TOKENS VLLM_PYTHON PORT
  srun --nodes ${#serving[@]} --nodelist "$(IFS=,; echo "${serving[*]}")" bash -c "$serve" &
  servers=$!
  trap 'kill $servers 2>/dev/null || true' EXIT
  for url in "${urls[@]}"; do # the weights take minutes
    until curl --silent --fail --max-time 5 "${url//\"/}/health" > /dev/null; do
      kill -0 $servers # has ended: so does the job
      sleep 5
    done
  done
fi

export TRAIN_NODES GPUS MASTER=${training[0]}
# shellcheck disable=SC2016
train='exec .venv/bin/accelerate launch --config_file configs/accelerate/multi_node.yaml \
  --num_machines "$TRAIN_NODES" --num_processes $((TRAIN_NODES * GPUS)) \
  --machine_rank "$SLURM_NODEID" --main_process_ip "$MASTER" train/grpo.py "$@"'
srun --nodes "$TRAIN_NODES" --nodelist "$(IFS=,; echo "${training[*]}")" --kill-on-bad-exit=1 \
  bash -c "$train" train "$@" "${extra[@]}" &
run=$!
trap 'kill -TERM $run 2>/dev/null || true; wait $run || true' TERM # a step is saved, then it ends
wait $run
