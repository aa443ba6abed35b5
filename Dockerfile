# Builds the agent with its eBPF programs, then puts nothing but the binary on a small base that has glibc.
# Any base will do: the builder needs Debian's apt (or a nightly with rust-src and bpf-linker) and cargo.
ARG BUILDER=docker.io/library/rust:1.95-bookworm
ARG RUNTIME=gcr.io/distroless/cc-debian12

FROM ${BUILDER} AS build
WORKDIR /src
# What installs the toolchain comes first, so that a change of the code does not install it again.
COPY scripts/as.sh scripts/setup.sh scripts/
COPY bpf-programs/toolchain.env bpf-programs/
COPY rust-toolchain.toml ./
RUN scripts/setup.sh
COPY . .
ARG REVISION=
RUN TARSIER_BPF=require TARSIER_REVISION=${REVISION} scripts/as.sh user cargo build --release --locked

FROM ${RUNTIME}
ARG REVISION=
LABEL org.opencontainers.image.title="tarsier" \
      org.opencontainers.image.licenses="Apache-2.0 AND (MIT OR GPL-2.0-only)" \
      org.opencontainers.image.revision="${REVISION}"
COPY LICENSE /licenses/LICENSE
COPY bpf-programs/LICENSE-MIT bpf-programs/LICENSE-GPL /licenses/bpf-programs/
COPY --from=build /src/target/release/tarsier /usr/bin/tarsier
# Makes the folder of the admin socket and the lock: the base has no shell to make it with.
WORKDIR /run/tarsier
EXPOSE 10300
ENTRYPOINT ["/usr/bin/tarsier"]
CMD ["run", "--log-format", "json"]
