# Two stages: build with everything, run with what the program links to.
FROM debian:12 AS build
RUN apt-get update && apt-get install -y --no-install-recommends make python3 python3-venv ca-certificates sudo \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /kerf
COPY . .
RUN make build

FROM debian:12
RUN apt-get update && apt-get install -y --no-install-recommends \
      libonnx1 libprotobuf32 libsqlite3-0 libspdlog1.10 libfmt9 libzip4 libssl3 libseccomp2 libgomp1 python3 \
    && rm -rf /var/lib/apt/lists/* && useradd --create-home kerf
COPY --from=build /kerf/build/release/bin/kerf /usr/local/bin/kerf
COPY --from=build /kerf/build/venv /kerf/build/venv
ENV LD_LIBRARY_PATH=/kerf/build/venv/lib KERF_PYTHON=/kerf/build/venv/bin/python
USER kerf
WORKDIR /home/kerf
ENTRYPOINT ["kerf"]
