"""The modules on a host: attached, switched, merged, saved and restored."""
