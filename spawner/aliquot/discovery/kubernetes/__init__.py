"""Discovery on Kubernetes: what GPUs the nodes of a cluster offer, and who holds them.

From the API server's JSON to an Inventory, in three steps that know nothing of each other:

``*_facts`` take out of an object what matters and drop the rest; they never raise, since
labels and annotations hold whatever somebody wrote. ``plugin``, ``hami`` and ``dra`` turn the
facts of one node into its GPUs and what is held on them. ``watch`` and ``source`` keep the
facts fresh.
"""
