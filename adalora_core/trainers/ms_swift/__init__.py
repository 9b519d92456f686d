"""Hold the plugin of ms-swift, alone in its folder: ms-swift puts that folder before `sys.path`."""
