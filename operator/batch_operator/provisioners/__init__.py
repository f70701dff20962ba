"""What makes plans for nodes come true: one folder for each type of `spec.provisioner`.

Each implements `cluster.provisioner.Provisioner`.
"""
