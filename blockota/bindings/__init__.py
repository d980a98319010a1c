"""Python bindings of BlockOTA's contracts and of the Safe, one module for each contract."""
