"""The gateway of a site: brings confirmed releases to devices by several protocols, and logs what devices prove."""
