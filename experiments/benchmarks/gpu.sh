#!/usr/bin/env bash
# What a GPU bears on, within ten minutes on one with 16 cores: experiments/benchmarks/gpu.sh [--quick] [PYTHON]
# Each part may take as long as stands before it and then makes way for the next; a part that fails ends nothing.
# --quick: small shapes, on whatever device there is, to see that every part runs.
set -uo pipefail
cd "$(dirname "$0")/../.."
quick=
[ "${1:-}" = --quick ] && { quick=1; shift; }
python=${1:-python}
export TF_CPP_MIN_LOG_LEVEL=${TF_CPP_MIN_LOG_LEVEL:-3} TF_FORCE_GPU_ALLOW_GROWTH=true
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader || echo "no nvidia-smi: is there a GPU?"

part() { # SECONDS MODULE [OPTION...]
    echo "== $2 ${*:3}"
    timeout -k 5 "$1" "$python" -m "${@:2}" || echo "$2: exit status $?"
}
benchmarks=experiments.benchmarks
if [ -n "$quick" ]; then
    small=(--size 32 --filters 8 --batch 2 --steps 2)
    part 300 $benchmarks.train_step "${small[@]}" --runs 2 --no-compile
    part 120 $benchmarks.step_profile "${small[@]}"
    part 200 $benchmarks.losses --quick --no-memory --compile --allocator default --runs 2
    part 200 $benchmarks.input_pipeline --rounds 1 --seconds 0.2 --files 8
    part 300 pytest -q -x -p no:cacheprovider tests/models/test_formulas.py tests/models/test_convolutions.py
else
    part 220 $benchmarks.train_step --device gpu
    part 60 $benchmarks.step_profile --device gpu --steps 5
    part 90 $benchmarks.losses --no-memory --compile --allocator default --runs 10
    part 80 $benchmarks.input_pipeline --cores "$(nproc)" --rounds 3 --seconds 1 --files 200
    # Values against NumPy, Keras and float64 within the tests' own tolerances, with the GPU as the device.
    part 150 pytest -q -p no:cacheprovider -n 4 -m "not slow" tests/losses tests/metrics tests/models
fi
