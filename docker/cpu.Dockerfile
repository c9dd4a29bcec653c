# Runs bundles on an x86-64 or 64-bit Arm CPU with ONNX Runtime; neither torch nor onnx is in it.
#
#   docker build --file docker/cpu.Dockerfile --tag edgevit:cpu .
#   docker run --rm --volume "$PWD/d/topk:/bundle:ro" --volume "$PWD/parts:/parts:ro" \
#       edgevit:cpu predict /bundle /parts/1.png
#
# The health check runs a bundle that is mounted at /bundle. `docker/prove.py docker/cpu.Dockerfile` carries these very
# steps out in fresh Debian roots where there is no Docker.

FROM debian:bookworm-20260824-slim AS build
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY constraints.txt pyproject.toml README.md LICENSE NOTICE ./
COPY edgevit edgevit
COPY export export
COPY runtimes runtimes
COPY benchmarks benchmarks
RUN python3 -m venv /opt/edgevit \
    && /opt/edgevit/bin/pip install --no-cache-dir --constraint constraints.txt '.[cpu]' \
    && /opt/edgevit/bin/pip uninstall --yes pip setuptools

FROM debian:bookworm-20260824-slim
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --home-dir /srv/edgevit --uid 10001 edgevit
COPY --from=build /opt/edgevit /opt/edgevit
ENV PATH=/opt/edgevit/bin:$PATH PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /srv/edgevit
HEALTHCHECK --interval=5m --timeout=1m \
    CMD ["sh", "-c", "if [ -d /bundle ]; then edgevit doctor /bundle; else edgevit doctor; fi"]
ENTRYPOINT ["edgevit"]
CMD ["doctor"]
