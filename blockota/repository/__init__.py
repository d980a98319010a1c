"""The repository of a vendor or broker: it serves over HTTP only the images and manifests that the chain allows.

The repository implements the trustless gateway protocol (specs.ipfs.tech): clients verify every block themselves.
"""
