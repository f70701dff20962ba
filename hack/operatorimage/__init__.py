"""The operator's image without an image builder: this machine's Python, and the locked packages.

For clusters that have no registry. `Dockerfile` describes the image for all others; both start the
same command as the same unprivileged user.
"""
