# A server over one base and its adapters:
#   docker build -t adapter-hub .
#   docker run --gpus all -p 8000:8000 -v adapter-hub:/data -v ./adapters:/adapters:ro \
#     -e ADAPTER_HUB_API_KEY=... adapter-hub serve --base org/some-causal-lm --adapter sql=/adapters/sql
#   docker run --rm -v adapter-hub:/data adapter-hub keys create team
FROM python:3.11-slim

# Triton compiles its launchers with it, on a GPU.
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*

RUN useradd --create-home --uid 1000 hub && mkdir /data && chown hub:hub /data
WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY adapter_hub adapter_hub
COPY plugins plugins
COPY demo demo
RUN pip install --no-cache-dir -c constraints.txt '.[serve]'

USER hub
# What has to outlive the container: the registry with its keys, the converted default base, what the Hub's client fetched.
ENV ADAPTER_HUB_HOST=0.0.0.0 \
    ADAPTER_HUB_PORT=8000 \
    ADAPTER_HUB_REGISTRY=/data/registry.sqlite3 \
    ADAPTER_HUB_CACHE_DIR=/data/cache \
    HF_HOME=/data/huggingface \
    PYTHONUNBUFFERED=1
VOLUME /data
EXPOSE 8000

# Loading a large base takes minutes, in which nobody listens yet.
HEALTHCHECK --interval=15s --timeout=5s --start-period=10m --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen(f'http://127.0.0.1:{os.environ[\"ADAPTER_HUB_PORT\"]}/health', timeout=4)"]

# SIGTERM drains; give it the time: docker stop --timeout 40.
STOPSIGNAL SIGTERM
ENTRYPOINT ["adapter-hub"]
CMD ["serve"]
