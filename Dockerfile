# tradepit in a container (docs/deploy.md). By itself it is a whole exchange, with SQLite and files:
#
#   docker build -t tradepit .
#   docker run --rm --shm-size 1g -p 127.0.0.1:8080:8080 -p 127.0.0.1:8090:8090 -v tradepit:/var/lib/tradepit tradepit
#
# compose.yaml puts MariaDB, Redis, Kafka and nginx around it.
FROM python:3.11.11-slim-bookworm

# tini is process 1: it takes in orphans and passes signals on, which the supervisor leaves to an init.
RUN apt-get update \
    && apt-get install -y --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 801 --home-dir /var/lib/tradepit --shell /usr/sbin/nologin tradepit \
    && install -d -o tradepit -g tradepit -m 0750 /var/lib/tradepit \
    && install -d -o tradepit -g tradepit /var/cache/tradepit

WORKDIR /opt/tradepit
COPY . .
RUN PIP_NO_CACHE_DIR=1 scripts/install && install -D -m 0644 docker/tradepit.toml /etc/tradepit/tradepit.toml

ENV PATH=/opt/tradepit/.venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    TRADEPIT_CONF=/etc/tradepit/tradepit.toml \
    TRADEPIT_CACHE_DIR=/var/cache/tradepit

USER tradepit
# For the kind of CPU that builds; another one compiles anew when it starts, in a minute.
RUN python -c 'from engine.warm import compile_all; compile_all()'

VOLUME /var/lib/tradepit
EXPOSE 8080 8090
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=10m --retries=3 CMD ["pit", "status"]
ENTRYPOINT ["tini", "--"]
CMD ["pit", "up"]
