"""The rules for engines that are not ours: CEL expressions in the shape that Kubernetes uses."""
