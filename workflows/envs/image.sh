#!/bin/sh
# The steps of the image, in a Debian 12 with the project in the folder that this is called in: Python with exactly the
# packages of constraints.txt, in /opt/mat. Dockerfile and Apptainer.def run it, and so does a test, in an empty root.
set -eu
apt-get update
apt-get install -y --no-install-recommends ca-certificates git python3 python3-venv rsync
rm -rf /var/lib/apt/lists/*
python3 -m venv /opt/mat
/opt/mat/bin/pip install --no-cache-dir --constraint constraints.txt --editable ".[experiments,slurm,kubernetes]"
/opt/mat/bin/mat list methods > /dev/null
