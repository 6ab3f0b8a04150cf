# A server that computes on the CPU:
#
#   docker build -t dualformer .
#   docker run --rm -p 8000:8000 --read-only --tmpfs /tmp:size=4g dualformer
#   docker run --rm -p 8000:8000 -v "$PWD/runs/train:/weights:ro" -e DUALFORMER_TOKEN=… dualformer --weights /weights/best.safetensors
#
# For a GPU, build with --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu128 and run with --gpus all.
FROM python:3.12-slim

ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1

WORKDIR /src
# PyTorch first and by itself: its layer is by far the largest, and changes least.
COPY constraints.txt ./
RUN pip install --index-url "$TORCH_INDEX" -c constraints.txt torch

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
