#!/bin/sh
# The GPUs of this machine as Spark's resource API wants them: {"name": "gpu", "addresses": ["GPU-8f6a...", "GPU-77e2..."]}
# By UUID, because numbers mean other GPUs wherever CUDA_VISIBLE_DEVICES is set; of a GPU that is divided (MIG), its parts.
nvidia-smi -L | awk '
  function name() { match($0, /\(UUID: [^)]*/); return substr($0, RSTART + 7, RLENGTH - 7) }
  /^GPU/ { if (whole != "") found[++n] = whole; whole = name() }
  /^ +MIG/ { whole = ""; found[++n] = name() }
  END {
    if (whole != "") found[++n] = whole
    printf "{\"name\": \"gpu\", \"addresses\": ["
    for (i = 1; i <= n; i++) printf("%s\"%s\"", (i > 1 ? ", " : ""), found[i])
    print "]}"
  }'
