# Package pkg:1: model plain-model:1 with its environment and its server. See README.md.
FROM python:3.11-slim AS packages
USER root
ENV PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
COPY requirements.lock /opt/portway/requirements.lock
RUN python3 -m venv /opt/portway/env
RUN /opt/portway/env/bin/python -m pip install --no-deps --only-binary=:all: -r /opt/portway/requirements.lock
RUN /opt/portway/env/bin/python -m pip install --no-deps --only-binary=:all: --target /opt/portway/overlay granian==2.8.7 click==8.5.1

FROM python:3.11-slim
COPY --from=packages /opt/portway/env /opt/portway/env
COPY --from=packages /opt/portway/overlay /opt/portway/overlay
COPY runtime/ /opt/portway/runtime/
COPY ["code/", "/var/azureml-app/code/"]
COPY ["model/", "/srv/models/plain-model/1/"]
ENV AZUREML_MODEL_DIR="/srv/models/plain-model/1" \
    AML_APP_ROOT="/var/azureml-app/code" \
    AZUREML_ENTRY_SCRIPT="score.py" \
    PORTWAY_BIND="0.0.0.0:5001" \
    PORTWAY_OVERLAY="/opt/portway/overlay" \
    HOME="/tmp" \
    ODD="a \"b\" \$HOME \\ {c} # d" \
    PLAIN="1"
WORKDIR /var/azureml-app
USER 10001:10001
EXPOSE 5001
HEALTHCHECK --interval=30s --timeout=10s --start-period=120s CMD ["/opt/portway/env/bin/python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:5001/', timeout=5)"]
LABEL portway.package="pkg:1" portway.model="plain-model:1" portway.server="azureml_online"
ENTRYPOINT ["/opt/portway/env/bin/python", "/opt/portway/runtime/boot.py"]
CMD []
