module batch-operator.io/hack/cluster-autoscaler-operator

go 1.26.0

require github.com/openshift/cluster-autoscaler-operator v0.0.1-0.20260608074635-5c8643284941
