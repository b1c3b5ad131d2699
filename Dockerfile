# Two images from one file: `koukan` (router, gateway and commands) and `operator`.
#
#   docker build --target koukan --tag localhost/koukan:0.1.0 .
#   docker build --target operator --tag localhost/koukan-operator:0.1.0 .
#
# Each stage makes a virtual environment and the image copies it whole: that works with Python's own image, with
# Debian's Python and with anything else that has python3, pip and venv under the same paths in both stages.
ARG BASE=python:3.11-slim

FROM ${BASE} AS environment
WORKDIR /src
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore PIP_CONSTRAINT=/src/constraints.txt
# What is needed changes seldom, our sources change often: so the requirements are a layer of their own.
COPY pyproject.toml constraints.txt ./
RUN python3 -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
print('\n'.join(project['dependencies']), file=open('koukan.txt', 'w')); \
print('\n'.join(project['optional-dependencies']['operator']), file=open('operator.txt', 'w'))"
# Bytecode is made here, once and checked by hash: the root file system is read-only later, and the layer does not
# depend on when it was built. The environment has no pip of its own; the base's installs into it.
ENV COMPILE="-m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/venv/lib"
RUN python3 -m venv --without-pip /opt/venv \
 && python3 -m pip --python /opt/venv/bin/python install --no-compile --requirement koukan.txt \
 && /opt/venv/bin/python $COMPILE
COPY README.md LICENSE ./
COPY koukan koukan
COPY operator operator

FROM environment AS koukan-environment
RUN python3 -m pip --python /opt/venv/bin/python install --no-compile --no-deps . \
 && rm /opt/venv/bin/koukan-operator \
 && /opt/venv/bin/python $COMPILE

FROM environment AS operator-environment
RUN python3 -m pip --python /opt/venv/bin/python install --no-compile --requirement operator.txt \
 && python3 -m pip --python /opt/venv/bin/python install --no-compile --no-deps . \
 && /opt/venv/bin/python $COMPILE

FROM ${BASE} AS runtime
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.vendor="The Koukan authors" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# A name for the user, since libraries ask for the home directory of whoever runs them; /tmp is the one place that a
# pod with a read-only root mounts.
RUN echo "koukan:x:10001:10001:Koukan:/tmp:/usr/sbin/nologin" >> /etc/passwd && echo "koukan:x:10001:" >> /etc/group
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PYTHONFAULTHANDLER=1
WORKDIR /tmp
USER 10001:10001

FROM runtime AS koukan
LABEL org.opencontainers.image.title="koukan" \
      org.opencontainers.image.description="Router, gateway and commands of Koukan, a mail gateway between SMTP and applications"
COPY --from=koukan-environment /opt/venv /opt/venv
# The exec form: the program is process 1 and gets the SIGTERM that starts its drain.
ENTRYPOINT ["koukan"]

FROM runtime AS operator
LABEL org.opencontainers.image.title="koukan-operator" \
      org.opencontainers.image.description="Operator for KoukanRouter, KoukanGateway and OutputChain"
COPY --from=operator-environment /opt/venv /opt/venv
ENTRYPOINT ["koukan-operator"]
CMD ["run"]
