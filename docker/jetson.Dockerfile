# Builds engines and runs them on a Jetson Orin with JetPack 6 (L4T r36.4, TensorRT 10.3, CUDA 12.6, Python 3.10);
# neither torch nor onnx is in it. Not verified: it takes a Jetson. Build it there.
#
#   docker build --file docker/jetson.Dockerfile --tag edgevit:jetson .
#   docker run --rm --runtime nvidia --volume "$PWD/d:/d" edgevit:jetson build /d/topk --target jetson-orin
#   docker run --rm --runtime nvidia --volume "$PWD/d:/d:ro" --volume "$PWD/parts:/parts:ro" \
#       edgevit:jetson predict /d/topk /parts/1.png
#
# The Python bindings of TensorRT are in the development image alone and are taken from there; libraries of the board
# itself are mounted by the NVIDIA runtime, so that tensorrt imports in a container and not during this build.

FROM nvcr.io/nvidia/l4t-tensorrt:r10.3.0-devel AS build
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && test -d /usr/lib/python3.10/dist-packages/tensorrt
WORKDIR /source
COPY constraints.txt pyproject.toml README.md LICENSE NOTICE ./
COPY edgevit edgevit
COPY export export
COPY runtimes runtimes
COPY benchmarks benchmarks
RUN python3 -m venv /opt/edgevit \
    && /opt/edgevit/bin/pip install --no-cache-dir --constraint constraints.txt '.[tensorrt,cpu]' \
    && /opt/edgevit/bin/pip uninstall --yes pip setuptools \
    && cp -a /usr/lib/python3.10/dist-packages/tensorrt /opt/edgevit/lib/python3.10/site-packages/

FROM nvcr.io/nvidia/l4t-tensorrt:r10.3.0-runtime
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --home-dir /srv/edgevit --uid 10001 --groups video edgevit
COPY --from=build /opt/edgevit /opt/edgevit
ENV PATH=/opt/edgevit/bin:$PATH PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /srv/edgevit
HEALTHCHECK --interval=5m --timeout=1m \
    CMD ["sh", "-c", "if [ -d /bundle ]; then edgevit doctor /bundle; else edgevit doctor; fi"]
ENTRYPOINT ["edgevit"]
CMD ["doctor"]
