"""A vendor's or broker's repository: images over HTTP, and nothing that the chain does not allow (S3.8).

It speaks the trustless gateway protocol (specs.ipfs.tech), so whoever fetches checks every block and need not trust it.
"""
