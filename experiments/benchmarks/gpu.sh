#!/usr/bin/env bash
# The benchmarks that a GPU bears on, within ten minutes on one with 16 cores: experiments/benchmarks/gpu.sh [PYTHON]
# Each part may take as long as stands before it and then makes way for the next; a part that fails ends nothing.
set -uo pipefail
cd "$(dirname "$0")/../.."
python=${1:-python}
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader || echo "no nvidia-smi: is there a GPU?"

part() { # SECONDS MODULE [OPTION...]
    echo "== $2 ${*:3}"
    timeout "$1" "$python" -m "experiments.benchmarks.$2" "${@:3}" || echo "$2: exit status $?"
}
part 270 train_step --device gpu
part 180 losses --allocator default --runs 10
part 120 input_pipeline --workers "$(nproc)" --rounds 3 --seconds 1 --files 200
