"""Names that users and other programs see: group, labels, annotations, finalizer, taint."""

from __future__ import annotations

GROUP = "batch-operator.io"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
CATEGORY = "batch-operator"

LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGED_BY = "batch-operator"

LABEL_ARRAY_INDEX = f"{GROUP}/array-index"
LABEL_ATTEMPT = f"{GROUP}/attempt"
LABEL_CAPACITY_TYPE = f"{GROUP}/capacity-type"
"""On nodes: `on-demand` or `spot`."""
LABEL_COMPUTE_ENVIRONMENT = f"{GROUP}/compute-environment"
LABEL_JOB_DEFINITION = f"{GROUP}/job-definition"
LABEL_JOB_NAME = f"{GROUP}/job-name"
LABEL_JOB_UID = f"{GROUP}/job-uid"
LABEL_NAMESPACE_NAME = "kubernetes.io/metadata.name"
"""Kubernetes' own, on every Namespace."""
LABEL_NODE_GROUP = f"{GROUP}/node-group"
"""On what makes up a multi-node job: which of its groups of nodes; 0 is the main node, alone."""
LABEL_SETTINGS = f"{GROUP}/infrastructure-settings"
"""On nodes of a MANAGED environment: which of its settings they were made with."""
LABEL_QUEUE = f"{GROUP}/job-queue"
LABEL_REVISION = f"{GROUP}/job-definition-revision"
LABEL_TRACKED = f"{GROUP}/tracked"
"""On a Pod from its creation until its outcome is counted. The operator watches only such Pods, so
finished ones cost it nothing however long they are kept for their logs."""

ANNOTATION_NODES = f"{GROUP}/nodes"
"""On the Pods of a group of nodes: the indexes of its nodes, in order of completion index."""
ANNOTATION_GROUPS = f"{GROUP}/node-groups"
"""On a Job of a multi-node job: how many Jobs there are of its attempt."""
ANNOTATION_NODE_INDEX = f"{GROUP}/node-index"
ANNOTATION_MAIN_NODE_ADDRESS = f"{GROUP}/main-node-address"
ANNOTATION_TAKEN_AT = f"{GROUP}/taken-at"
"""On a snapshot of a cluster, which is a file: the moment that it shows."""

ANNOTATION_REQUEUED = f"{GROUP}/requeued"
"""On a Pod that the operator ends for reasons that are not its job's: why, as its statusReason."""

ANNOTATION_GIVEN_UP = f"{GROUP}/given-up-since"
"""On a node that the operator has waited for long enough: what still runs there is ended."""
ANNOTATION_DRAINING = f"{GROUP}/draining-since"
"""On a node that the operator has cordoned, to remove it when it is idle: since when."""

ANNOTATION_RELEASED = f"{GROUP}/released"
"""On a node that the operator has given up for good: whoever made it is told to take it away."""

GATE_GANG = f"{GROUP}/gang"
"""The scheduling gate that holds a multi-node job's Pods until it is their turn."""

FINALIZER_NODES = f"{GROUP}/nodes"
"""Keeps a MANAGED compute environment until the last of its nodes is removed."""
FINALIZER_TRACKING = f"{GROUP}/tracking"
"""Keeps an ended Pod readable until its outcome is counted."""

TAINT_COMPUTE_ENVIRONMENT = LABEL_COMPUTE_ENVIRONMENT
"""On nodes that belong to one compute environment alone; the value is its name."""
TAINT_INTERRUPTED = f"{GROUP}/interrupted"
"""On a node that is about to be taken away: nothing new goes there, and what runs is ended."""
