"""A vendor's or broker's repository: serves over HTTP the images that the chain allows, and nothing else (S3.8).

It implements the trustless gateway protocol (specs.ipfs.tech): clients verify every block and need not trust it.
"""
