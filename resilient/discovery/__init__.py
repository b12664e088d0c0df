"""Where endpoints come from: a list, or the DNS of a Kubernetes cluster."""
