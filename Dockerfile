# Web server and workers in one image; the command decides which of them a container is.
# Not built by the project's own checks: they run where there is no container engine.
#
#   docker build -t chimera-daemon .
#   docker run -p 127.0.0.1:8000:8000 -e CHIMERA_AUTH=off -v chimera:/var/lib/chimera \
#       chimera-daemon
#
# There is no sign-in yet, so Chimera refuses to listen beyond loopback, which a container must,
# until CHIMERA_AUTH=off says that somebody else keeps strangers out: here the published address.
#
# Workers alone, beside a web container and over one PostgreSQL (CHIMERA_DATABASE_URL):
#   docker run -v chimera:/var/lib/chimera -e CHIMERA_DATABASE_URL=… chimera-daemon \
#       python manage.py qcluster
#
# The sandbox needs user namespaces. Where the engine's default profile forbids them, tasks stop
# with a message that says so; --security-opt seccomp=unconfined --security-opt
# apparmor=unconfined --security-opt systempaths=unconfined lets bubblewrap make them.
# Staged sites listen on loopback ports of the container: publish those, or let it share the
# host's network (--network host).
FROM python:3.12-slim

RUN apt-get update \
    && apt-get install -y --no-install-recommends \
        bubblewrap chromium ffmpeg fonts-dejavu-core git tini \
    && rm -rf /var/lib/apt/lists/*

ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore

WORKDIR /opt/chimera
COPY requirements.txt ./
RUN pip install -r requirements.txt
COPY . .
RUN pip install --no-deps --no-build-isolation -e .

RUN useradd --system --create-home --uid 10001 chimera \
    && install -d -o chimera -g chimera -m 0700 /var/lib/chimera
USER chimera
ENV CHIMERA_HOME=/var/lib/chimera \
    CHIMERA_API_HOST=0.0.0.0
VOLUME /var/lib/chimera
EXPOSE 8000
# Workers get 30 s to reach a checkpoint: docker stop --time 45.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + (os.environ.get('CHIMERA_API_PORT') or '8000') + '/health', timeout=4)"]

# tini reaps what agents leave behind.
ENTRYPOINT ["tini", "--"]
CMD ["chimera-daemon", "start"]
