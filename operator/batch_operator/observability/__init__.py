"""What the operator says about itself: metrics, logs and probes. It decides nothing."""
