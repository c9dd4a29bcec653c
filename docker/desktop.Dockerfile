# Builds engines and runs them on a desktop or server GPU with TensorRT 11; neither torch nor onnx is in it. Not
# verified: it takes an NVIDIA GPU, its driver (CUDA 13) and the NVIDIA container toolkit.
#
#   docker build --file docker/desktop.Dockerfile --tag edgevit:desktop .
#   docker run --rm --gpus all --volume "$PWD/d:/d" edgevit:desktop build /d/topk --target desktop-gpu
#   docker run --rm --gpus all --volume "$PWD/d:/d:ro" --volume "$PWD/parts:/parts:ro" \
#       edgevit:desktop predict /d/topk /parts/1.png
#
# TensorRT comes as pinned wheels, whose libraries pip fetches from NVIDIA, so that the base is Debian's and not a
# development image of several gigabytes.

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
    && /opt/edgevit/bin/pip install --no-cache-dir --constraint constraints.txt '.[tensorrt,cpu]' \
    && /opt/edgevit/bin/pip uninstall --yes pip setuptools

FROM debian:bookworm-20260824-slim
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --home-dir /srv/edgevit --uid 10001 edgevit
COPY --from=build /opt/edgevit /opt/edgevit
ENV PATH=/opt/edgevit/bin:$PATH PYTHONUNBUFFERED=1 NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 10001:10001
WORKDIR /srv/edgevit
HEALTHCHECK --interval=5m --timeout=1m \
    CMD ["sh", "-c", "if [ -d /bundle ]; then edgevit doctor /bundle; else edgevit doctor; fi"]
ENTRYPOINT ["edgevit"]
CMD ["doctor"]
