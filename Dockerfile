# Hearth in a container, on a CPU or on CUDA. The steps are `make`'s own.
#
#   docker build --target cpu  -t hearth:cpu  .
#   docker build --target cuda -t hearth:cuda .
#
#   docker run -p 8080:8080 -v /path/to/model:/opt/ml/model:ro hearth:cpu      a SageMaker container: /ping, /invocations
#   docker run -p 8080:8080 -e HEARTH_API_KEY=... hearth:cpu up --host 0.0.0.0  a whole Hearth with hearth.yaml

FROM python:3.11-slim-bookworm AS base

# g++ compiles what torch.compile and Triton make at run time; tini is process 1 and takes in orphans.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends g++ make tini \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 1000 --create-home hearth \
 && mkdir -p /opt/hearth /var/lib/hearth /opt/ml/model \
 && chown -R hearth:hearth /opt/hearth /var/lib/hearth /opt/ml

USER 1000:1000
WORKDIR /opt/hearth

ENV PATH=/opt/hearth/.venv/bin:$PATH \
    HEARTH_STATE_DIR=/var/lib/hearth \
    HF_HOME=/var/lib/hearth/hub \
    PIP_NO_CACHE_DIR=1 \
    PYTHONUNBUFFERED=1

# What set-up reads, and no more: this layer is kept while only code changes.
COPY --chown=hearth:hearth Makefile pyproject.toml README.md LICENSE ./
COPY --chown=hearth:hearth constraints constraints
COPY --chown=hearth:hearth server/__init__.py server/__main__.py server/
COPY --chown=hearth:hearth server/cli/doctor.py server/cli/install.py server/cli/
COPY --chown=hearth:hearth models/__init__.py models/
COPY --chown=hearth:hearth kernels/__init__.py kernels/
COPY --chown=hearth:hearth benchmarks/__init__.py benchmarks/

LABEL org.opencontainers.image.title="Hearth" \
      org.opencontainers.image.licenses="Apache-2.0" \
      com.amazonaws.sagemaker.capabilities.accept-bind-to-port="true"

EXPOSE 8080
ENTRYPOINT ["tini", "--", "hearth"]
CMD ["serve"]
HEALTHCHECK --interval=10s --timeout=5s --start-period=10m --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ.get('SAGEMAKER_BIND_TO_PORT', '8080') + '/ping', timeout=4)"]


FROM base AS cuda
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
RUN make setup PROFILE=gpu EXTRAS=postgres,tabular
COPY --chown=hearth:hearth . .


FROM base AS cpu
RUN make setup PROFILE=cpu EXTRAS=postgres,tabular
COPY --chown=hearth:hearth . .
RUN make compile PROFILE=cpu EXTRAS=postgres
