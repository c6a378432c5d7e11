"""The campaign behind `scripts/sinks`: stores with real servers, and all that goes wrong."""
