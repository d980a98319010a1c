"""The tests of BlockOTA; CONTRIBUTING.md describes the folders of the tests."""
