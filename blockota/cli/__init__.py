"""The command line of BlockOTA, which parses commands, calls the library and prints results."""
