# Package pkg:1: model net:1 with its environment and its server. See README.md.
FROM python:3.11-slim AS packages
USER root
ENV PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
COPY requirements.lock /opt/portway/requirements.lock
RUN python3 -m venv /opt/portway/env
RUN /opt/portway/env/bin/python -m pip install --no-deps --only-binary=:all: -r /opt/portway/requirements.lock

FROM python:3.11-slim
COPY --from=packages /opt/portway/env /opt/portway/env
COPY runtime/ /opt/portway/runtime/
COPY ["model/", "/var/azureml-app/azureml-models/net/1/"]
ENV AZUREML_MODEL_DIR="/var/azureml-app/azureml-models/net/1" \
    PORTWAY_BIND="0.0.0.0:8000" \
    PORTWAY_TRITON_MODELS="/var/azureml-app/azureml-models/net/1" \
    HOME="/tmp"
WORKDIR /var/azureml-app
USER 10001:10001
EXPOSE 8000 8001
HEALTHCHECK --interval=30s --timeout=10s --start-period=120s CMD ["/opt/portway/env/bin/python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/v2/health/ready', timeout=5)"]
LABEL portway.package="pkg:1" portway.model="net:1" portway.server="triton"
ENTRYPOINT ["/opt/portway/env/bin/python", "/opt/portway/runtime/triton/launch.py"]
CMD []
