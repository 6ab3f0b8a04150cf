# A server:
#
#   docker build -t dualformer .
#   docker run --rm -p 8000:8000 --read-only --tmpfs /tmp:size=4g dualformer
#   docker run --rm -p 8000:8000 -v "$PWD/runs/train:/weights:ro" -e DUALFORMER_TOKEN=… dualformer --weights /weights/best.safetensors
#
# PyTorch comes from pip's own index, whose build for Linux carries CUDA and several GB (run it with --gpus all). For an
# image that is small, name the index of the CPU build, as PyTorch's installation page gives it: --build-arg TORCH_INDEX=URL
FROM python:3.12-slim

ARG TORCH_INDEX=""

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    MPLCONFIGDIR=/tmp/matplotlib

WORKDIR /src
# PyTorch first and by itself: its layer is by far the largest, and changes least.
COPY constraints.txt ./
RUN pip install ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} -c constraints.txt torch

COPY pyproject.toml README.md LICENSE ./
COPY src ./src
RUN pip install -c constraints.txt ".[web,explain]" && rm -rf /src/src

RUN useradd --system --uid 10001 --create-home --shell /usr/sbin/nologin dualformer
USER dualformer
WORKDIR /home/dualformer

EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=3 \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=4)"]

# The process is number 1 and hears SIGTERM itself: no shell in between.
ENTRYPOINT ["dualformer", "serve", "--host", "0.0.0.0", "--port", "8000"]
CMD ["--weights", "rendered"]
