"""The tests of BlockOTA; CONTRIBUTING.md describes their folders."""
