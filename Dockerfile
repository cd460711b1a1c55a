# The hub's image: JupyterHub, KubeSpawner, Aliquot and its example configuration.
#
#   docker build -t aliquot-hub .
#
# The proxy is not in it: like Zero to JupyterHub's hub image, it runs beside its own proxy
# container. tests/packaging lints this file and replays its steps without Docker; for that,
# steps of the build and of the install use paths relative to their WORKDIR.

FROM node:22-bookworm-slim AS pages
WORKDIR /pages
COPY extension/ui/package.json extension/ui/package-lock.json extension/ui/
RUN npm ci --no-audit --no-fund --prefix extension/ui
COPY extension/ extension/
RUN npm run build --prefix extension/ui

FROM python:3.12-slim-bookworm AS wheel
WORKDIR /wheel
COPY requirements/build.lock requirements/
RUN pip install --no-cache-dir --require-hashes -r requirements/build.lock
COPY setup.cfg pyproject.toml MANIFEST.in README.md LICENSE ./
COPY spawner/ spawner/
COPY --from=pages /pages/extension/aliquot_lab/ extension/aliquot_lab/
COPY --from=pages /pages/spawner/ spawner/
RUN python -m build --wheel --no-isolation

FROM python:3.12-slim-bookworm
WORKDIR /srv/jupyterhub
# Packages first: they change less often than Aliquot does.
COPY requirements/hub.lock requirements/
RUN pip install --no-cache-dir --require-hashes -r requirements/hub.lock
COPY --from=wheel /wheel/dist/ dist/
RUN pip install --no-cache-dir --no-deps dist/*.whl && pip check
COPY hub_config/ hub_config/

# A number, so that Kubernetes can check runAsNonRoot. The hub's database and the ledger belong
# on a volume mounted at /var/lib/jupyterhub, on a disk of this node.
RUN useradd --uid 1000 --create-home --home-dir /home/jovyan jovyan \
    && install --directory --owner 1000 --group 1000 /srv/jupyterhub /var/lib/jupyterhub
USER 1000
EXPOSE 8081
# Reads /srv/jupyterhub/jupyterhub_config.py: mount yours, or begin with one of hub_config/.
CMD ["jupyterhub"]
