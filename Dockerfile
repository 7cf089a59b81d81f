# syntax=docker/dockerfile:1.7
# One file for both: --build-arg TORCH=cpu (default) or TORCH=cuda.
# PyTorch's CUDA wheels bring CUDA with them: only the driver, from the NVIDIA Container Toolkit,
# comes from the host. PyAV brings FFmpeg and soundfile brings libsndfile: nothing to apt-get.

ARG PYTHON=3.11.13-slim-bookworm

FROM python:${PYTHON} AS packages
ARG TORCH=cpu
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
# A few of funasr's dependencies come as source with C in it.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends build-essential \
    && rm -rf /var/lib/apt/lists/*
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
COPY requirements.txt /tmp/requirements.txt
RUN case "$TORCH" in \
        cpu) export PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu ;; \
        cuda) ;; \
        *) echo "TORCH is '$TORCH'; expected cpu or cuda" >&2; exit 1 ;; \
    esac; \
    pip install --no-cache-dir --requirement /tmp/requirements.txt

FROM python:${PYTHON}
LABEL org.opencontainers.image.title="emotion2vec-ui" \
      org.opencontainers.image.description="Speech emotion recognition: page, REST API, command line"
# Weights and their caches go to /models, results to /outputs. The address is every interface of
# the container, so the program asks for EMOTION2VEC_AUTH or EMOTION2VEC_API_KEY and does not start
# without (or with --enable-insecure-extension-access).
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    GRADIO_SERVER_NAME=0.0.0.0 \
    GRADIO_SERVER_PORT=7860 \
    GRADIO_ANALYTICS_ENABLED=False \
    EMOTION2VEC_OUTPUTS=/outputs \
    MODELSCOPE_CACHE=/models/modelscope \
    HF_HOME=/models/huggingface \
    XDG_CACHE_HOME=/models/cache \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
RUN groupadd --gid 10001 app \
    && useradd --uid 10001 --gid app --no-create-home --home-dir /tmp --shell /usr/sbin/nologin app \
    && install --directory --owner app --group app /models /outputs /audios
COPY --from=packages /opt/venv /opt/venv
WORKDIR /app
COPY app.py pyproject.toml requirements.txt ./
COPY emotion2vec_ui ./emotion2vec_ui
# Once here and not at each start: the program may not write here.
RUN python -m compileall -q --invalidation-mode unchecked-hash emotion2vec_ui
# By number, so that Kubernetes can see that it is not root.
USER 10001:10001
VOLUME ["/models", "/outputs"]
EXPOSE 7860
# Up, not ready: a model that downloads for an hour is no reason to restart.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f\"http://127.0.0.1:{os.environ['GRADIO_SERVER_PORT']}/health\", timeout=4)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "-m", "emotion2vec_ui"]
CMD ["serve"]
