"""Types of the native module. Checked against it by stubtest."""
