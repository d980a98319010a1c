"""Content stores, and the sources from which a release's image is fetched."""
