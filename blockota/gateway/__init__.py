"""The gateway of a site.

The gateway delivers confirmed releases to devices over several protocols, and logs the devices' evidence.
"""
