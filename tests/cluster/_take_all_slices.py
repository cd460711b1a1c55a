"""Seven pods of somebody else on one node, each with a slice; a test's hook runs it."""

import sys
import time

import requests

node, namespace, url, authorization, ca_file = sys.argv[1:]
session = requests.Session()
session.headers["Authorization"] = authorization
session.verify = ca_file
pods = f"{url}/api/v1/namespaces/{namespace}/pods"
for number in range(7):
    resources = {"limits": {"nvidia.com/mig-1g.10gb": "1"}}
    container = {"name": "train", "image": "none", "resources": resources}
    spec = {"nodeName": node, "containers": [container], "terminationGracePeriodSeconds": 0}
    body = {"metadata": {"name": f"train-{number}"}, "spec": spec}
    session.post(pods, json=body, timeout=10).raise_for_status()
time.sleep(0.5)  # longer than the scheduler's watch takes; a pod it has not seen takes no slice
