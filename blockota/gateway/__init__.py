"""The gateway of a site.

It brings confirmed releases to devices over several protocols, and logs the devices' evidence.
"""
