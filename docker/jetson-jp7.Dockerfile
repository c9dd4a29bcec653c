# Builds engines and runs them on a Jetson with JetPack 7 (AGX Orin or Thor); neither torch nor onnx is installed by
# it. Not verified: it takes a Jetson. Build it there.
#
#   docker build --file docker/jetson-jp7.Dockerfile --tag edgevit:jetson-jp7 .
#   docker run --rm --runtime nvidia --volume "$PWD/d:/d" edgevit:jetson-jp7 build /d/topk --target jetson-thor
#   docker run --rm --runtime nvidia --volume "$PWD/d:/d:ro" --volume "$PWD/parts:/parts:ro" \
#       edgevit:jetson-jp7 predict /d/topk /parts/1.png
#
# JetPack 7 runs the images for Arm servers (SBSA). 26.05 holds TensorRT 10.16, whose release notes name Orin and Thor;
# TensorRT 11 takes JetPack 7.2.2 and 11.4.1 or later: then change the tag in both places.

FROM nvcr.io/nvidia/tensorrt:26.05-py3 AS build
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
RUN python3 -m venv --system-site-packages /opt/edgevit \
    && /opt/edgevit/bin/pip install --no-cache-dir --constraint constraints.txt '.[tensorrt,cpu]' \
    && /opt/edgevit/bin/python -c 'from importlib.metadata import version; version("tensorrt")'

FROM nvcr.io/nvidia/tensorrt:26.05-py3
RUN useradd --create-home --home-dir /srv/edgevit --uid 10001 --groups video edgevit
COPY --from=build /opt/edgevit /opt/edgevit
ENV PATH=/opt/edgevit/bin:$PATH PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /srv/edgevit
HEALTHCHECK --interval=5m --timeout=1m \
    CMD ["sh", "-c", "if [ -d /bundle ]; then edgevit doctor /bundle; else edgevit doctor; fi"]
ENTRYPOINT ["edgevit"]
CMD ["doctor"]
