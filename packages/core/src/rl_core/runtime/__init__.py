"""Runs in many processes: the only folder of core that imports Ray. `Algorithm` enters it through `remote_runner`."""
