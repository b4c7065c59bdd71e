# The workflow with all that it runs, without conda: config/README.md, "In a container".
#
#     docker build --tag spamosaic .                          # for CPUs
#     docker build --tag spamosaic --build-arg DEVICE=cuda .  # for NVIDIA GPUs; torch brings CUDA along
FROM python:3.11-slim-bookworm AS packages
ARG DEVICE=cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/venv
COPY requirements.lock /tmp/
# torch first and alone, as in the Makefile. The build without CUDA is in PyTorch's own index; if that can't be reached, the
# build with CUDA must not take its place.
RUN case "$DEVICE" in \
      cpu) build=+cpu index=https://download.pytorch.org/whl/cpu ;; \
      cuda) build='' index=https://pypi.org/simple ;; \
      *) echo "DEVICE is cpu or cuda, not $DEVICE" >&2; exit 2 ;; \
    esac && /opt/venv/bin/pip install --no-compile "$(grep '^torch==' /tmp/requirements.lock)$build" \
    --index-url "$index" --extra-index-url https://pypi.org/simple
# Tests of packages and headers for compilers give their room to compiled modules, without which each job compiles all it
# imports. One file is of a later Python.
RUN /opt/venv/bin/pip install --no-compile --requirement /tmp/requirements.lock && \
    find /opt/venv -type d \( -name test -o -name tests -o -path '*/torch/include' \) -prune -exec rm -r {} + && \
    /opt/venv/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash -x py312 /opt/venv/lib

FROM python:3.11-slim-bookworm
COPY --from=packages /opt/venv /opt/venv
COPY LICENSE /opt/spamosaic/
COPY profiles /opt/spamosaic/profiles
COPY config /opt/spamosaic/config
COPY resources /opt/spamosaic/resources
COPY envs /opt/spamosaic/envs
COPY scripts /opt/spamosaic/scripts
COPY workflow /opt/spamosaic/workflow
# Any user may run it, as in `docker run --user`: what is written beside the results goes below /tmp, and USER is the name of
# one whom /etc/passwd does not know.
ENV PATH=/opt/venv/bin:$PATH PYTHONPATH=/opt/spamosaic/scripts PYTHONDONTWRITEBYTECODE=1 USER=spamosaic HOME=/tmp \
    XDG_CACHE_HOME=/tmp/cache MPLCONFIGDIR=/tmp/matplotlib NUMBA_CACHE_DIR=/tmp/numba
RUN useradd --uid 1000 --home-dir /tmp spamosaic && mkdir /work && chown 1000 /work
USER 1000
# The folder with config/ and the data.
WORKDIR /work
ENTRYPOINT ["snakemake", "--snakefile", "/opt/spamosaic/workflow/Snakefile", "--workflow-profile", "/opt/spamosaic/profiles/default"]
CMD ["--cores", "all"]
