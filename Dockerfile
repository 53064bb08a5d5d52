# docker build -t raftlookupd --build-arg COMMIT=$(git rev-parse --short=9 HEAD) .
FROM rust:1.89-slim-bookworm AS build
WORKDIR /src
# make is for the allocator.
RUN apt-get update && apt-get install --yes --no-install-recommends make && rm -rf /var/lib/apt/lists/*
COPY . .
# Shown by --version; the folder .git is not copied.
ARG COMMIT=
RUN BUILT_FROM=$COMMIT cargo build --release --locked --package raftlookupd

FROM debian:bookworm-slim
RUN useradd --uid 1000 --user-group --no-create-home --home-dir /data raftlookupd \
    && install -d -o raftlookupd -g raftlookupd -m 0700 /data
COPY --from=build /src/target/release/raftlookupd /usr/local/bin/raftlookupd
# Charts and compose files made for NSQ's image start /nsqlookupd.
RUN ln -s /usr/local/bin/raftlookupd /nsqlookupd

USER raftlookupd
# Flags are also environment variables; this one is --data-path.
ENV RAFTLOOKUPD_DATA_PATH=/data
VOLUME /data
EXPOSE 4160 4161 4162

# Healthy: the state is loaded, lookups are answered, with a quorum or without.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/4161 && printf 'GET /topics?consistency=stale HTTP/1.0\\r\\n\\r\\n' >&3 && read -r status <&3 && [[ $status == *' 200 '* ]]"]

# No entry point, like NSQ's image, so that `command: /nsqlookupd --flags` works in both.
CMD ["raftlookupd"]
