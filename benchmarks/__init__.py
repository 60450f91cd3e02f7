"""Every number in README and docs comes from a script here. Everything runs on one thread."""

import os

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"  # read by numpy and PyTorch when they are loaded, which is after this
